import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../base/errors';
import { removeTree } from '../process/files';
import type { Containers } from './containers';

/** What a removed container has written is called so until it is deleted. */
export const GONE = '.gone';

/** Whoever had a container removed hears so before its files are deleted, which takes the disk. */
const PAUSE_MS = 20;

/**
 * Deletes what a removed container has written, one container after the other: it may be much, and a disk that is told of
 * each block that is free (`discard`) is waited for with each directory. What a daemon's end leaves of it, the next one
 * deletes.
 */
export function deleteLater(containers: Containers, gone: string): void {
  containers.deletions
    .run('', () => sleep(PAUSE_MS).then(() => removeTree(gone)))
    .catch((error: unknown) =>
      containers.log.warn(`could not remove ${gone}: ${messageOf(error)}; it is tried again at the next start`),
    );
}

/** A daemon that ends waits so long for what it was asked to delete. */
const END_MS = 5000;

/** Resolves once all of it is deleted, or when that takes longer than whoever ends the daemon should wait. */
export async function untilDeleted(containers: Containers): Promise<void> {
  const late = new AbortController();
  const all = containers.deletions.run('', () => Promise.resolve());
  await Promise.race([all, sleep(END_MS, undefined, { signal: late.signal }).catch(() => undefined)]);
  late.abort();
}
