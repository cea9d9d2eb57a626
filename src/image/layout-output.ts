import { constants } from 'node:fs';
import { lstat, mkdir, open, readdir, rename, rm, rmdir, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Context } from '../base/context';
import { BerthError, errnoOf, isAbsent, messageOf } from '../base/errors';
import { randomHexId } from '../base/ids';
import { Rollback } from '../base/rollback';
import { algorithmOf, hexOf, type Digest } from './digest';
import { documentBytesMax, tooLarge } from './documents';
import { fullDisk } from './incoming';

/** A file that is being written, before it gets its name. */
const halfWritten = /^(?:[0-9a-f]{64}|[0-9a-f]{128}|index\.json|oci-layout)\.[0-9a-f]{16}$/;
/** Nobody waits so long between two pieces of a file. */
const leftoverAgeMs = 60 * 60 * 1000;

type Bytes = AsyncIterable<Buffer> | Iterable<Buffer>;

/**
 * Files of an OCI image layout in a directory of the node, which may be in the hands of somebody who is not trusted: nothing
 * below it is reached through a link. What was added is taken away again when it is left without `commit`.
 */
export class LayoutOutput implements AsyncDisposable {
  private readonly undo: Rollback;
  /** By the path below the layout. */
  private readonly directories = new Map<string, FileHandle>();

  private constructor(
    private readonly ctx: Context,
    private readonly path: string,
  ) {
    this.undo = new Rollback(ctx.log);
  }

  /** Opens the directory, which is made if it is not there, for `work`. */
  static async during(ctx: Context, path: string, work: (output: LayoutOutput) => Promise<void>): Promise<void> {
    await using output = new LayoutOutput(ctx, path);
    try {
      await output.open();
      await work(output);
    } catch (error) {
      const failure = fullDisk(error, `write to ${path}`);
      if (failure instanceof BerthError) throw failure;
      throw new BerthError('failed_precondition', `write to ${path}: ${output.named(messageOf(error))}`, {
        cause: error,
      });
    }
  }

  /** A document, or undefined when there is none of this name. */
  async read(name: string): Promise<Buffer | undefined> {
    try {
      // A FIFO must not wait for its writer.
      const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
      await using file = await open(await this.at(name), flags);
      const stat = await file.stat();
      if (!stat.isFile()) throw this.refused(name, 'it is not a regular file');
      if (stat.size > documentBytesMax) throw tooLarge(join(this.path, name), stat.size);
      return await file.readFile();
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw errnoOf(error) === 'ELOOP' ? this.refused(name, 'it is a link') : error;
    }
  }

  async hasBlob(digest: Digest, sizeBytes: number): Promise<boolean> {
    const found = await this.stat(blobOf(digest));
    return found?.isFile() === true && found.size === sizeBytes;
  }

  /** Writes a file, whole or not at all; one of this name is replaced. */
  async write(name: string, bytes: Bytes): Promise<void> {
    const path = await this.at(name);
    const temporary = `${path}.${randomHexId().slice(0, 16)}`;
    const isNew = (await this.stat(name)) === undefined;
    try {
      await using file = await open(temporary, 'wx', 0o644);
      for await (const chunk of bytes) {
        this.ctx.throwIfEnded();
        await file.writeFile(chunk);
      }
      await file.datasync();
      if (isNew)
        await this.undo.step(
          `write ${name}`,
          () => rename(temporary, path),
          () => rm(path, { force: true }),
        );
      else await rename(temporary, path);
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async writeBlob(digest: Digest, bytes: Bytes): Promise<void> {
    await this.write(blobOf(digest), bytes);
  }

  async readBlob(digest: Digest): Promise<Buffer | undefined> {
    return this.read(blobOf(digest));
  }

  async removeBlob(digest: Digest): Promise<void> {
    await rm(await this.at(blobOf(digest)), { force: true });
  }

  /** What was added stays. */
  commit(): void {
    this.undo.commit();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.undo[Symbol.asyncDispose]();
    for (const directory of this.directories.values()) await directory.close();
  }

  private async open(): Promise<void> {
    const { path } = this;
    await this.undo.step(
      `make ${path}`,
      () => mkdir(path, { recursive: true }),
      first => removeMade(path, first),
    );
    await this.opened('.', await open(path, constants.O_RDONLY | constants.O_DIRECTORY));
  }

  private async opened(name: string, directory: FileHandle): Promise<FileHandle> {
    this.directories.set(name, directory);
    await removeLeftovers(directory);
    return directory;
  }

  /** Node names the paths that it was given: see `at`. */
  private named(message: string): string {
    return [...this.directories].reduce(
      (text, [name, directory]) => text.replaceAll(`${pathOf(directory)}/`, `${join(this.path, name)}/`),
      message,
    );
  }

  private async stat(name: string) {
    try {
      return await lstat(await this.at(name));
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw error;
    }
  }

  /** The path of a name by the open directory that it is in: only its last part is looked up, and that is no link's. */
  private async at(name: string): Promise<string> {
    const parent = await this.directory(dirname(name));
    return `${pathOf(parent)}/${name.slice(name.lastIndexOf('/') + 1)}`;
  }

  private async directory(name: string): Promise<FileHandle> {
    const known = this.directories.get(name);
    if (known) return known;
    const path = await this.at(name);
    try {
      await this.undo.step(
        `make ${name}`,
        () => mkdir(path, 0o755),
        () => rmdir(path),
      );
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
    try {
      const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
      return await this.opened(name, await open(path, flags));
    } catch (error) {
      const code = errnoOf(error);
      throw code === 'ELOOP' || code === 'ENOTDIR' ? this.refused(name, 'it is no directory') : error;
    }
  }

  private refused(name: string, why: string): BerthError {
    return new BerthError('failed_precondition', `${join(this.path, name)}: ${why}`);
  }
}

function pathOf(directory: FileHandle): string {
  return `/proc/self/fd/${directory.fd}`;
}

/** What a daemon that was killed had half written; somebody else may be writing there at this moment. */
async function removeLeftovers(directory: FileHandle): Promise<void> {
  for (const name of (await readdir(pathOf(directory))).filter(each => halfWritten.test(each))) {
    const path = join(pathOf(directory), name);
    const found = await lstat(path).catch(() => undefined);
    if (found?.isFile() && Date.now() - found.mtimeMs > leftoverAgeMs) await rm(path, { force: true });
  }
}

function blobOf(digest: Digest): string {
  return join('blobs', algorithmOf(digest), hexOf(digest));
}

/** From `path` up to the first directory that was made; those that somebody uses by now stay. */
async function removeMade(path: string, first: string | undefined): Promise<void> {
  if (first === undefined) return;
  for (let at = path; at.length >= first.length; at = dirname(at)) await rmdir(at);
}
