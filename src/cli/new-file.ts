import { randomBytes } from 'node:crypto';
import { rmSync, type Stats } from 'node:fs';
import { open, realpath, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { BerthError, errnoOf, isAbsent, messageOf } from '../base/errors';
import { onInterrupt } from './on-interrupt';

/**
 * A file that has its name once it is whole: what was there before stays until then, and for good when it never is. What
 * is no plain file, such as a pipe or /dev/null, is written to as it is.
 */
export class NewFile implements AsyncDisposable {
  private readonly release: () => void;

  private constructor(
    private readonly path: string,
    /** Undefined once it has its own name, or where it never gets another. */
    private temporary: string | undefined,
    private readonly file: FileHandle,
  ) {
    this.release = onInterrupt(() => this.temporary !== undefined && rmSync(this.temporary, { force: true }));
  }

  static async open(asked: string): Promise<NewFile> {
    return told(asked, async () => {
      const path = await realpath(asked).catch(() => resolve(asked));
      const before = await found(path);
      if (before && !before.isFile()) return new NewFile(path, undefined, await open(path, 'w'));
      const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(4).toString('hex')}`);
      const file = await open(temporary, 'wx', before ? 0o600 : 0o666);
      const made = new NewFile(path, temporary, file);
      try {
        if (before) await likeBefore(file, before);
        return made;
      } catch (error) {
        await made[Symbol.asyncDispose]();
        throw error;
      }
    });
  }

  async write(bytes: Uint8Array): Promise<void> {
    await told(this.path, () => this.file.writeFile(bytes));
  }

  /** It is whole: on disk and under its name when this resolves. */
  async end(): Promise<void> {
    await told(this.path, async () => {
      if (this.temporary === undefined) return;
      await this.file.sync();
      await rename(this.temporary, this.path);
      this.temporary = undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.file.close();
    if (this.temporary !== undefined) await rm(this.temporary, { force: true });
    this.release();
  }
}

/** What is there; throws for a directory. */
async function found(path: string): Promise<Stats | undefined> {
  try {
    const stats = await stat(path);
    if (!stats.isDirectory()) return stats;
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
  throw new BerthError('failed_precondition', `write ${path}: it is a directory`);
}

/** Who could read and write what was there before can do so still, and nobody else. */
async function likeBefore(file: FileHandle, { mode, uid, gid }: Stats): Promise<void> {
  const own = await file.stat();
  const isAsBefore = (own.uid === uid && own.gid === gid) || (await givenTo(file, uid, gid));
  // Whose it was is somebody else: what the group and all others might do with it is not for those that it has now.
  await file.chmod(mode & (isAsBefore ? 0o777 : 0o700));
}

async function givenTo(file: FileHandle, uid: number, gid: number): Promise<boolean> {
  try {
    await file.chown(uid, gid);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EPERM') return false;
    throw error;
  }
}

async function told<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof BerthError) throw error;
    throw new BerthError('failed_precondition', `write ${path}: ${messageOf(error)}`, { cause: error });
  }
}
