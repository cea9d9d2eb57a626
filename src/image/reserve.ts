import { rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, kindOf, messageOf } from '../base/errors';
import type { Logger } from '../base/log';

const reserveBytes = 16 * 1024 * 1024;

/**
 * Space that is kept for the worst hour: on a full disk a removal must write, too
 * (a record's page, a directory's new name), and without it could not free any.
 */
export class Reserve {
  private readonly path: string;

  constructor(
    private readonly root: string,
    private readonly log: Logger,
  ) {
    this.path = join(root, 'reserve');
  }

  /** Takes the space, if there is plenty. */
  async fill(): Promise<void> {
    try {
      const { bavail, bsize } = await statfs(this.root);
      if (bavail * bsize < 4 * reserveBytes) return;
      // Written, not only allocated: on a file system that copies on write an allocation is no promise.
      await writeFile(this.path, Buffer.alloc(reserveBytes), { flag: 'wx', mode: 0o600 });
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') return;
      await rm(this.path, { force: true }).catch(() => undefined);
      this.log.warn(`no space is kept for a full disk: ${messageOf(error)}`);
    }
  }

  /** Runs `work`, which frees space; when the disk is too full for it, once more with the reserve given up. */
  async spend<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!isFull(error)) throw error;
      this.log.warn('the disk is full: the reserve is given up for a removal');
      await rm(this.path, { force: true });
      return await work();
    }
  }
}

/** LMDB says it in words. */
export function isFull(error: unknown): boolean {
  const code = errnoOf(error);
  return (
    code === 'ENOSPC' ||
    code === 'EDQUOT' ||
    kindOf(error) === 'resource_exhausted' ||
    /no space left|MDB_MAP_FULL/i.test(messageOf(error))
  );
}
