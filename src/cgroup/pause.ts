import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readIfThere, writeIfThere } from './files';
import { homeOf, type Hierarchies } from './hierarchies';

/** The file that holds a cgroup's processes still, where the kernel tells that they are, and what is written and read there. */
interface Freezer {
  file: string;
  frozen: string;
  thawed: string;
  /** True once no process of the cgroup runs. */
  isStill: () => boolean;
}

/** How long it is waited between two looks, at most: the kernel announces nothing on v1. */
const LOOK_EVERY_MS = 100;

/**
 * Holds every process in a cgroup and below it still. True once none of them runs; false when `signal` aborts before, or
 * the cgroup goes: then they all go on. Undefined where this host has no freezer.
 */
export async function pause(hierarchies: Hierarchies, path: string, signal: AbortSignal): Promise<boolean | undefined> {
  const freezer = freezerOf(hierarchies, path);
  if (!freezer) return undefined;
  for (let waitMs = 1; await writeIfThere(freezer.file, freezer.frozen); waitMs = Math.min(2 * waitMs, LOOK_EVERY_MS)) {
    if (freezer.isStill()) return true;
    if (signal.aborted) break;
    // Written again each time: with v1, a fork may have been under way.
    await sleep(waitMs);
  }
  await unpause(hierarchies, path);
  return false;
}

/** Lets all of them go on, whoever has held them. */
export async function unpause(hierarchies: Hierarchies, path: string): Promise<void> {
  const freezer = freezerOf(hierarchies, path);
  if (freezer) await writeIfThere(freezer.file, freezer.thawed);
}

/** True while somebody holds the cgroup's processes still, or is about to. */
export function isPaused(hierarchies: Hierarchies, path: string): boolean {
  const freezer = freezerOf(hierarchies, path);
  return freezer !== undefined && !['', freezer.thawed].includes(readIfThere(freezer.file));
}

function freezerOf(hierarchies: Hierarchies, path: string): Freezer | undefined {
  const home = homeOf(hierarchies, 'freezer');
  if (home?.version === 1) {
    const file = join(home.mountpoint, path, 'freezer.state');
    return { file, frozen: 'FROZEN', thawed: 'THAWED', isStill: () => readIfThere(file) === 'FROZEN' };
  }
  if (hierarchies.v2 === undefined) return undefined;
  // No controller of v2's: every cgroup but the root has it (Linux 5.2).
  const dir = join(hierarchies.v2, path);
  const isStill = () => /^frozen 1$/m.test(readIfThere(join(dir, 'cgroup.events')));
  return { file: join(dir, 'cgroup.freeze'), frozen: '1', thawed: '0', isStill };
}
