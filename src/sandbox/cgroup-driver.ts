import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { BerthError } from '../base/errors';
import type { CgroupDriverName } from '../cgroup/groups';
import { PodSandboxConfig } from '../cri';
import type { SandboxRecord } from './sandboxes';

/** What the choice depends on, beside the records. */
export interface DriverFacts {
  configured: 'auto' | CgroupDriverName;
  /** Whether systemd is the host's init: /run/systemd/system says so (sd_booted(3)). */
  hasSystemd: boolean;
  /** Where pods' namespaces are while they live. */
  stateDir: string;
}

const OTHER = { cgroupfs: 'systemd', systemd: 'cgroupfs' } as const;
const NAMED_PODS = 5;

/**
 * The cgroup driver of this daemon's life. `auto` is systemd's where systemd is the host's init, as the kubelet's default
 * is, but stays with the pods that live. Throws `failed_precondition` naming them when another one is configured: their
 * cgroups are where the other driver, and the kubelet with it, does not look.
 *
 * @returns with `stays`, when that is why it is not what `auto` means here
 */
export function chooseCgroupDriver(
  records: readonly SandboxRecord[],
  { configured, hasSystemd, stateDir }: DriverFacts,
): { driver: CgroupDriverName; stays?: string } {
  const wanted = configured === 'auto' ? (hasSystemd ? 'systemd' : 'cgroupfs') : configured;
  const others = records.filter(record => (record.cgroupDriver ?? 'cgroupfs') !== wanted && isAlive(record, stateDir));
  if (others.length === 0) return { driver: wanted };
  const present = OTHER[wanted];
  const pods = namesOf(others);
  if (configured === 'auto') {
    const why = `runtime.cgroup_driver stays ${present}, not ${wanted}, as long as there are pods made with it: ${pods}`;
    return { driver: present, stays: why };
  }
  throw new BerthError(
    'failed_precondition',
    `runtime.cgroup_driver = "${wanted}" cannot be used while pods live whose cgroups were made by ${present}: ${pods}`,
    {
      hint: `set it to "${present}" again, remove them (drain the node; crictl rmp -fa, berth rm -f), then switch berth and the kubelet`,
    },
  );
}

/** Its namespaces are in a directory that a reboot empties. */
function isAlive({ id, state }: SandboxRecord, stateDir: string): boolean {
  return state === 'ready' && existsSync(join(stateDir, 'sandboxes', id, 'ns'));
}

function namesOf(records: readonly SandboxRecord[]): string {
  const names = records.slice(0, NAMED_PODS).map(({ id, config, owner }) => {
    const { metadata } = PodSandboxConfig.decode(config);
    const name = owner === 'cri' ? `${metadata?.namespace}/${metadata?.name}` : `${metadata?.name} (a person's)`;
    return `${name} ${id.slice(0, 12)}`;
  });
  const more = records.length - names.length;
  return names.join(', ') + (more > 0 ? ` and ${more} more` : '');
}
