import { existsSync } from 'node:fs';
import { BerthError, messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import { Cgroups, type CgroupDriverName } from './groups';
import { homeOf, readHierarchies, type Hierarchies } from './hierarchies';
import { addresses } from './systemd/session';
import { isOutOfReach, Systemd } from './systemd/systemd';
import { Units } from './systemd/units';

/** Whether systemd is the host's init, as sd_booted(3) tells it. */
export function hasSystemd(): boolean {
  return existsSync('/run/systemd/system');
}

/**
 * The host's cgroups by a driver. A systemd that is not reached now is waited for by whoever needs it, where systemd is the
 * host's init; elsewhere, and for one that is too old, it is `failed_precondition`.
 */
export async function openCgroups(driver: CgroupDriverName, log: Logger): Promise<Cgroups> {
  const hierarchies = readHierarchies();
  if (driver === 'cgroupfs') {
    if (hasSystemd() && isMovedBySystemd(hierarchies)) log.warn(MOVED);
    return new Cgroups(hierarchies);
  }
  const systemd = new Systemd(addresses(process.env));
  try {
    log.info(`cgroups are made by systemd ${await systemd.version()}`);
  } catch (error) {
    if (!isOutOfReach(error)) throw error;
    if (!hasSystemd()) throw notTheInit(error);
    log.warn(`no container can be made until systemd answers: ${messageOf(error)}`);
  }
  return new Cgroups(hierarchies, new Units(systemd, hierarchies));
}

/**
 * On v1 systemd has a controller at its root as long as some unit needs it. When that changes, it moves the processes of the whole
 * tree, those of no unit of its own as well (seen with systemd 252).
 */
function isMovedBySystemd(hierarchies: Hierarchies): boolean {
  return OF_SYSTEMD.some(controller => homeOf(hierarchies, controller)?.version === 1);
}

const OF_SYSTEMD = ['cpu', 'memory', 'devices', 'blkio', 'pids'];

const MOVED =
  'berth makes cgroups itself on a host with systemd and cgroup v1: systemd may move processes of containers out of them ' +
  'when units with other controllers start (DeviceAllow=, IOWeight=), and they are held to nothing then; once the node is drained, ' +
  'set runtime.cgroup_driver = "systemd", here and in the kubelet, or change the host to cgroup v2';

function notTheInit(cause: unknown): BerthError {
  return new BerthError(
    'failed_precondition',
    `runtime.cgroup_driver is "systemd", and systemd is not the init of this host: ${messageOf(cause)}`,
    { cause, hint: 'set it to "cgroupfs", here and in the kubelet' },
  );
}
