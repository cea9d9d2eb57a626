import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { open, realpath, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { BerthError, isAbsent, messageOf } from '../base/errors';
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
      if (await isSpecial(path)) return new NewFile(path, undefined, await open(path, 'w'));
      const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(4).toString('hex')}`);
      return new NewFile(path, temporary, await open(temporary, 'wx', 0o644));
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

/** Throws for a directory. */
async function isSpecial(path: string): Promise<boolean> {
  try {
    const found = await stat(path);
    if (found.isDirectory()) throw new BerthError('failed_precondition', `write ${path}: it is a directory`);
    return !found.isFile();
  } catch (error) {
    if (isAbsent(error)) return false;
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
