import { mkdir, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../base/context';
import { BerthError, errnoOf, messageOf } from '../base/errors';
import { randomHexId } from '../base/ids';
import type { Logger } from '../base/log';
import { removeDirectory } from './unpack/unpack';

/** Bytes as a client sends them; undefined is their end. */
export type Chunks = () => Promise<Uint8Array | undefined>;

/** A file with what came. */
export interface Spooled {
  readonly path: string;
  readonly sizeBytes: number;
}

/** Private directories for what comes from outside and is not trusted yet; all are gone when their use ends, or at the next start. */
export class Incoming {
  private readonly removals = new Set<Promise<void>>();

  private constructor(
    private readonly root: string,
    private readonly log: Logger,
  ) {}

  static async open(root: string, log: Logger): Promise<Incoming> {
    await mkdir(root, { recursive: true, mode: 0o700 });
    for (const name of await readdir(root)) await removeDirectory(join(root, name));
    return new Incoming(root, log);
  }

  async during<T>(work: (dir: string) => Promise<T>): Promise<T> {
    const dir = await this.make();
    try {
      return await work(dir);
    } finally {
      await removeDirectory(dir);
    }
  }

  /**
   * The same, but whoever waits for the result has it before the directory goes and `afterwards` is done; when the work
   * fails, all of that comes first.
   */
  async answeringFirst<T>(work: (dir: string) => Promise<T>, afterwards: () => Promise<void>): Promise<T> {
    const dir = await this.make();
    const result = await work(dir).catch(async (error: unknown) => {
      await removeDirectory(dir);
      await afterwards();
      throw error;
    });
    this.behind(dir, afterwards);
    return result;
  }

  /** Waits for what goes on behind answers. */
  async settled(): Promise<void> {
    await Promise.all(this.removals);
  }

  private async make(): Promise<string> {
    const dir = join(this.root, randomHexId().slice(0, 16));
    await mkdir(dir, { mode: 0o700 });
    return dir;
  }

  private behind(dir: string, afterwards: () => Promise<void>): void {
    const removal = removeDirectory(dir)
      .catch((error: unknown) =>
        this.log.warn(`could not remove ${dir}: ${messageOf(error)}; it is tried again at the next start`),
      )
      .then(afterwards)
      .finally(() => this.removals.delete(removal));
    this.removals.add(removal);
  }
}

/** Writes what comes into the new file `path`; `what` names it in errors. */
export async function spool(ctx: Context, chunks: Chunks, path: string, what: string): Promise<Spooled> {
  const file = await open(path, 'wx', 0o600);
  let sizeBytes = 0;
  try {
    for (;;) {
      const chunk = await chunks();
      ctx.throwIfEnded();
      if (chunk === undefined) break;
      await file.writeFile(chunk); // goes on where the last one ended
      sizeBytes += chunk.length;
    }
  } catch (error) {
    throw fullDisk(error, what);
  } finally {
    await file.close();
  }
  if (sizeBytes === 0)
    throw new BerthError('invalid_argument', `${what} is empty`, { hint: 'a tar archive is needed' });
  return { path, sizeBytes };
}

/** The error itself, unless it says that the disk is full. */
export function fullDisk(error: unknown, what: string): unknown {
  const errno = errnoOf(error);
  if (errno !== 'ENOSPC' && errno !== 'EDQUOT') return error;
  return new BerthError('resource_exhausted', `${what}: no space left on device`, {
    cause: error,
    hint: 'free some space and try again',
  });
}
