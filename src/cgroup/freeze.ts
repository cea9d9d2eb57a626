import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf } from '../base/errors';
import { addon } from '../native/addon';
import { readIfThere, treeOf, writeIfThere } from './files';
import { directories, homeOf, type Hierarchies } from './hierarchies';

/** A process in state D keeps a cgroup from being frozen whole: what is not frozen by then is killed all the same. */
const FREEZE_WITHIN_MS = 500;

/** Without a freezer, processes may be born while others are killed: so it is done again, so often. */
const KILL_ROUNDS = 100;

const SIGKILL = 9;

/**
 * Ends every process in a cgroup and below it: those that are stopped or frozen,
 * that have left their session, that are in another PID namespace, and that make
 * others faster than anybody can list them. Returns at once: the kernel finishes on its own.
 */
export async function killAll(hierarchies: Hierarchies, path: string): Promise<void> {
  const wasKilled =
    hierarchies.v2 !== undefined && (await writeIfThere(join(hierarchies.v2, path, 'cgroup.kill'), '1'));
  // cgroup.kill takes v2's own frost off, and v1's it does not.
  if (wasKilled) await thaw(hierarchies, path);
  else await killEach(hierarchies, path);
}

/**
 * v1 has no kill of its own: the freezer holds all still, so that the list of
 * processes stays true while each is killed; they die when it lets go.
 */
export async function killEach(hierarchies: Hierarchies, path: string): Promise<void> {
  const isFrozen = await freeze(hierarchies, path);
  try {
    for (let round = 0; round < (isFrozen ? 1 : KILL_ROUNDS); round++) {
      const pids = processesBelow(hierarchies, path);
      if (pids.length === 0) return;
      for (const pid of pids) killIfIn(path, pid);
    }
  } finally {
    await thaw(hierarchies, path);
  }
}

/** Pids in the cgroup and below it, of all hierarchies together. */
export function processesBelow(hierarchies: Hierarchies, path: string): number[] {
  const pids = new Set<number>();
  for (const dir of directories(hierarchies, path)) {
    for (const at of treeOf(dir)) {
      // 0 is a process outside of this process's PID namespace.
      for (const line of readIfThere(join(at, 'cgroup.procs')).split('\n'))
        if (Number(line) > 0) pids.add(Number(line));
    }
  }
  return [...pids];
}

/** The pid may be another process's by now: what is killed is looked at once it is held. */
function killIfIn(path: string, pid: number): void {
  let pidfd: number | undefined;
  try {
    pidfd = addon().pidfdOpen(pid);
    const isInside = readIfThere(`/proc/${pid}/cgroup`)
      .split('\n')
      .some(line => line.endsWith(path) || line.includes(`${path}/`));
    if (isInside) addon().pidfdSignal(pidfd, SIGKILL);
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
  } finally {
    if (pidfd !== undefined) closeSync(pidfd);
  }
}

/** True when all processes hold still now; false where there is no freezer. */
async function freeze(hierarchies: Hierarchies, path: string): Promise<boolean> {
  const freezer = homeOf(hierarchies, 'freezer');
  if (freezer?.version !== 1) return false;
  const file = join(freezer.mountpoint, path, 'freezer.state');
  const until = Date.now() + FREEZE_WITHIN_MS;
  for (let waitMs = 1; await writeIfThere(file, 'FROZEN'); waitMs *= 2) {
    if (readIfThere(file) === 'FROZEN') return true;
    if (Date.now() > until) return false;
    // Written again each time: a fork may have been under way.
    await sleep(waitMs);
  }
  return false;
}

/** Lets everything in a v1 cgroup and below it go on, whoever has frozen it. */
async function thaw(hierarchies: Hierarchies, path: string): Promise<void> {
  const freezer = homeOf(hierarchies, 'freezer');
  if (freezer?.version !== 1) return;
  for (const dir of treeOf(join(freezer.mountpoint, path))) {
    const file = join(dir, 'freezer.state');
    if (readIfThere(file) !== 'THAWED') await writeIfThere(file, 'THAWED');
  }
}
