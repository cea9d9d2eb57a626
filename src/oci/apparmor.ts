import { BerthError } from '../base/errors';
import type { LinuxContainerSecurityContext } from '../cri';
import { profileChoice } from './security-profile';

/** What a container's processes get when it asks for RuntimeDefault. */
export const APPARMOR_DEFAULT = 'berth-default';

/**
 * Its text for apparmor_parser, without includes: whatever capabilities, seccomp
 * and masks already hold is held once more, for the day when one of them has a
 * hole. Files of the container are its own; the kernel's are read, not written,
 * and nothing is mounted.
 */
export const APPARMOR_DEFAULT_TEXT = `
profile ${APPARMOR_DEFAULT} flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send, receive) peer=${APPARMOR_DEFAULT},
  ptrace (trace, read, tracedby, readby) peer=${APPARMOR_DEFAULT},

  deny mount,
  # /proc: what belongs to processes is theirs, of the rest only the sysctls of namespaces are written.
  deny /proc/* w,
  deny /proc/{acpi,bus,driver,fs,irq,scsi,tty}/** w,
  deny /proc/sys/{abi,crypto,debug,dev,sunrpc,user,vm}/** w,
  deny /proc/sys/fs/[^m]** w,
  deny /proc/sys/kernel/{[^hmsd],s[^he],h[^o],m[^s],d[^o]}** w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/{kcore,kmem,mem,keys,timer_list,sched_debug} rwklx,
  # /sys: nothing but cgroups is written, and what tells of the machine's power or firmware is not read.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
`;

/** What there is of AppArmor on the host. */
export interface AppArmorHost {
  isEnabled: boolean;
  /** The default profile is loaded, or could be. */
  hasDefault: boolean;
  /** Undefined when the list of loaded profiles cannot be read. */
  loaded: ReadonlySet<string> | undefined;
}

/**
 * The profile for a container's processes; undefined: unconfined. RuntimeDefault
 * is what the host can do, so nothing where it has no AppArmor; a profile that is
 * asked for by name must be there. Privileged containers have only what they name.
 * Throws `failed_precondition`.
 */
export function apparmorProfile(
  security: LinuxContainerSecurityContext | undefined,
  host: AppArmorHost,
): string | undefined {
  const choice = profileChoice(security?.apparmor, security?.apparmorProfile ?? '', 'apparmor');
  if (choice?.type === 'localhost') return loadedProfile(choice.ref, host);
  const isUnconfined = choice?.type === 'unconfined' || security?.privileged;
  return !isUnconfined && host.isEnabled && host.hasDefault ? APPARMOR_DEFAULT : undefined;
}

function loadedProfile(name: string, { isEnabled, loaded }: AppArmorHost): string {
  if (!isEnabled) {
    throw new BerthError(
      'failed_precondition',
      `AppArmor profile ${name}: this node's kernel has no AppArmor enabled`,
      {
        hint: 'boot with apparmor=1 security=apparmor, or do not ask for a profile',
      },
    );
  }
  if (loaded && !loaded.has(name)) {
    throw new BerthError('failed_precondition', `AppArmor profile ${name} is not loaded on this node`, {
      hint: 'load it with apparmor_parser',
    });
  }
  return name;
}

/** `/sys/kernel/security/apparmor/profiles`: a line is `name (mode)`. */
export function profilesIn(text: string): Set<string> {
  return new Set([...text.matchAll(/^(.+) \(\w+\)$/gm)].map(([, name = '']) => name));
}
