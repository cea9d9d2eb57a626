import { constants } from 'node:fs';
import { open, realpath, type FileHandle } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { BerthError, errnoOf, isAbsent, messageOf } from '../base/errors';
import { documentBytesMax, tooLarge } from './documents';

/**
 * The files of an archive that lies unpacked in a directory. Names come from the
 * archive itself: one is a name of a regular file within, or is refused. Links are
 * followed (docker used to write them for layers that repeat) as long as they stay within.
 */
export class ArchiveFiles {
  private constructor(
    private readonly root: string,
    /** For messages: as the person calls it. */
    readonly what: string,
  ) {}

  static async open(dir: string, what: string): Promise<ArchiveFiles> {
    try {
      return new ArchiveFiles(await realpath(dir), what);
    } catch (error) {
      if (isAbsent(error)) throw new BerthError('not_found', `${what}: there is no such directory`, { cause: error });
      throw new BerthError('failed_precondition', `${what}: ${messageOf(error)}`, { cause: error });
    }
  }

  async has(name: string): Promise<boolean> {
    const file = await this.tryOpen(name);
    await file?.close();
    return file !== undefined;
  }

  /** A document, whole; `not_found` when the archive has none of this name. */
  async document(name: string): Promise<Buffer> {
    await using file = await this.file(name);
    const { size } = await file.stat();
    if (size > documentBytesMax) throw tooLarge(`${name} of ${this.what}`, size);
    return await file.readFile();
  }

  /** For reading, by the caller, who closes it. */
  async file(name: string): Promise<FileHandle> {
    const file = await this.tryOpen(name);
    if (file) return file;
    throw new BerthError('not_found', `${this.what} has no ${JSON.stringify(name)}`, {
      hint: 'it is not whole; save it again',
    });
  }

  private async tryOpen(name: string): Promise<FileHandle | undefined> {
    if (name === '' || name.startsWith('/') || name.includes('\0') || name.split('/').includes('..'))
      throw this.refused(name, 'a name leads out of it');
    let file: FileHandle;
    try {
      const path = await realpath(join(this.root, name));
      if (!path.startsWith(this.root + sep)) throw this.refused(name, 'a link leads out of it');
      // The path has no links any more, and a FIFO must not wait for its writer.
      file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      if (error instanceof BerthError) throw error;
      if (isAbsent(error)) return undefined;
      throw this.refused(name, errnoOf(error) === 'ELOOP' ? 'its links go in circles' : messageOf(error));
    }
    if ((await file.stat()).isFile()) return file;
    await file.close();
    throw this.refused(name, 'it is not a regular file');
  }

  private refused(name: string, why: string): BerthError {
    return new BerthError('failed_precondition', `${this.what}: ${JSON.stringify(name.slice(0, 200))}: ${why}`, {
      hint: 'such an archive is refused',
    });
  }
}
