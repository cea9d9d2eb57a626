/**
 * What of /proc and /sys a container must not see: it tells of the host or
 * reaches hardware (powercap: GHSA-7ww5-4wqc-m92c). What is not there on a host
 * is skipped by the helper.
 */
export const MASKED_PATHS: readonly string[] = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
];

/** What a container may read but not write, even as root. */
export const READONLY_PATHS: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
];

export interface PathRule {
  isPrivileged: boolean;
  /** With one the kubelet allows `procMount: Unmasked`. */
  hasUserNamespace: boolean;
}

/**
 * Which of the defaults and the request's list counts. A list means itself. On the wire an empty list and none are the
 * same: in a user namespace they mean no paths, as the kubelet says `procMount: Unmasked`, which it allows only there;
 * without one they are a client that says nothing, and it gets the defaults. A privileged container has none.
 */
export function pathsOf(asked: readonly string[], defaults: readonly string[], rule: PathRule): string[] {
  if (rule.isPrivileged) return [];
  if (asked.length > 0) return [...asked];
  return rule.hasUserNamespace ? [] : [...defaults];
}
