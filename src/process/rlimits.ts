import { readFileSync } from 'node:fs';
import { RLIMIT_NAMES, RLIMITS, type RlimitName } from '../base/rlimits';
import { addon } from '../native/addon';

/** The highest hard limits that a process started by the daemon can have; Infinity is none. */
export type RlimitCeilings = Readonly<Record<RlimitName, number>>;

/**
 * Raises the daemon's own hard limits as far as it may, once at its start: what it starts then has room for any limit that
 * a container is to have. In a user namespace nobody could raise one any more, whatever his capabilities. Soft limits stay.
 */
export function raiseHardLimits(): RlimitCeilings {
  const most = (name: RlimitName) => (name === 'nofile' ? descriptorsMax() : Infinity);
  const raised = RLIMIT_NAMES.map(name => [name, addon().raiseHardLimit(RLIMITS[name], most(name))]);
  return Object.fromEntries(raised) as Record<RlimitName, number>;
}

/** Nobody's limit of descriptors goes beyond. */
function descriptorsMax(): number {
  return Number(readFileSync('/proc/sys/fs/nr_open', 'latin1'));
}
