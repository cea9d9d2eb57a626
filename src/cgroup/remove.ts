import { rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BerthError, errnoOf, isAbsent, messageOf } from '../base/errors';
import { fileCalls } from '../native/file-calls';
import { readIfThere, treeOf } from './files';
import { killAll, killEach, processesBelow } from './freeze';
import { directories, type Hierarchies } from './hierarchies';

/** How long a cgroup that the kernel still calls busy is tried again; its processes are dead by then. */
const REMOVE_WITHIN_MS = 5000;

/** After this it is no longer the end of killed processes that keeps it busy. */
const KILL_AGAIN_AFTER_MS = 250;

/** Kills what is left in the cgroup and below it, and removes all of it, in every hierarchy. One that is gone is fine. */
export async function removeCgroup(hierarchies: Hierarchies, path: string): Promise<void> {
  const { v2 } = hierarchies;
  // Most are empty, and gone after this one turn of a pool thread.
  const failures = await fileCalls([
    ...(v2 === undefined ? [] : [{ call: 'write', path: join(v2, path, 'cgroup.kill'), data: '1' } as const]),
    ...directories(hierarchies, path).map(dir => ({ call: 'rmdir', path: dir }) as const),
  ]);
  const left = failures.filter(({ call, code }) => call.call === 'rmdir' && code !== 'ENOENT');
  if (left.length === 0) return;
  await killAll(hierarchies, path);
  await Promise.all(left.map(({ call }) => removeTree(hierarchies, path, call.path)));
}

/**
 * Waits until no process is left in the cgroup, all of whose processes have been killed; false when some are still
 * there when `signal` aborts.
 */
export async function emptied(hierarchies: Hierarchies, path: string, signal: AbortSignal): Promise<boolean> {
  for (let waitMs = 1; isPopulated(hierarchies, path); waitMs = Math.min(waitMs * 2, 100)) {
    if (signal.aborted) return false;
    await sleep(waitMs);
  }
  return true;
}

/** v2 knows of processes that are still being taken apart, which no list has any more. */
function isPopulated(hierarchies: Hierarchies, path: string): boolean {
  if (hierarchies.v2 === undefined) return processesBelow(hierarchies, path).length > 0;
  return /^populated 1$/m.test(readIfThere(join(hierarchies.v2, path, 'cgroup.events')));
}

/** rmdir of a cgroup answers EBUSY while there are cgroups below it, or the kernel takes its last processes apart. */
async function removeTree(hierarchies: Hierarchies, path: string, dir: string): Promise<void> {
  const startedAt = Date.now();
  let wasKilledAgain = false;
  for (let waitMs = 1; !(await isRemoved(dir)); waitMs = Math.min(waitMs * 2, 100)) {
    const ms = Date.now() - startedAt;
    if (ms > REMOVE_WITHIN_MS) throw busy(dir);
    if (ms > KILL_AGAIN_AFTER_MS && !wasKilledAgain) {
      // A process may be here and not in v2's cgroup, where it was killed.
      await killEach(hierarchies, path);
      wasKilledAgain = true;
    }
    for (const below of [...treeOf(dir)].slice(1).reverse()) await isRemoved(below);
    await sleep(waitMs);
  }
}

async function isRemoved(dir: string): Promise<boolean> {
  try {
    await rmdir(dir);
    return true;
  } catch (error) {
    if (isAbsent(error)) return true;
    if (errnoOf(error) === 'EBUSY') return false;
    throw new BerthError('internal', `remove cgroup ${dir}: ${messageOf(error)}`, { cause: error });
  }
}

function busy(dir: string): BerthError {
  return new BerthError('internal', `remove cgroup ${dir}: the kernel calls it busy`, {
    hint: 'processes in it do not end; look for ones in state D',
  });
}
