import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { killAll } from '../../src/cgroup/freeze';
import { readHierarchies } from '../../src/cgroup/hierarchies';
import { cgroupsBelow, killIfThere, podInits, processesIn, processesWithMountNamespace } from './processes';

/** What is there of a test's daemon. */
export interface Remains {
  /** Its directory. */
  dir: string;
  /** Its cgroups, from the root of the hierarchies, and a directory for each in each of them. */
  cgroups: readonly string[];
  cgroupRoots: readonly string[];
  /** Whether the cgroups were made for it. */
  isOwn: boolean;
}

/**
 * Ends all that a daemon has started, whatever state it is in, and removes what is there of it.
 *
 * @param namespace its mount namespace, `mnt:[…]`, which somebody has to hold: another could have its number otherwise
 * @param spared a process in it that goes on
 */
export async function removeRemains(remains: Remains, namespace: string, spared?: number): Promise<void> {
  const { dir, cgroupRoots, isOwn } = remains;
  const pods = join(dir, 'state/sandboxes');
  const ids = existsSync(pods) ? readdirSync(pods) : [];
  await endProcesses(remains, namespace, spared);
  for (const pid of podInits({ ids })) killIfThere(pid);
  if (isOwn) for (const root of cgroupRoots) await removeCgroupTree(root);
  rmSync(dir, { recursive: true, force: true });
}

/** A frozen process ends when it is thawed. */
async function endProcesses({ cgroups, cgroupRoots }: Remains, namespace: string, spared?: number): Promise<void> {
  const hierarchies = readHierarchies();
  for (let round = 0; round < 500; round++) {
    for (const path of cgroups) await killAll(hierarchies, path);
    const left = [...processesIn(cgroupRoots), ...processesWithMountNamespace(namespace)].filter(pid => pid !== spared);
    if (left.length === 0) return;
    for (const pid of left) killIfThere(pid);
    await sleep(10);
  }
}

async function removeCgroupTree(dir: string): Promise<void> {
  for (const sub of cgroupsBelow(dir)) await removeCgroupTree(join(dir, sub));
  for (let round = 0; round < 200; round++) {
    try {
      rmdirSync(dir);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      await sleep(10);
    }
  }
  throw new Error(`cgroup ${dir} cannot be removed`);
}
