import { mkdir, open, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BerthError, messageOf } from '../base/errors';
import { fullDisk } from './incoming';
import { tarDirectoryHeader, tarEnd, tarFileHeader, tarPadding } from './tar-writer';

/** Where an archive goes. Names are ours. */
export interface ArchiveOutput {
  directory(name: string): Promise<void>;
  /** `bytes` yield exactly `sizeBytes`. */
  file(name: string, sizeBytes: number, bytes: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<void>;
  end(): Promise<void>;
}

/** One tar, in pieces. */
export class TarOutput implements ArchiveOutput {
  private readonly directories = new Set<string>();

  constructor(private readonly send: (bytes: Buffer) => Promise<void>) {}

  async directory(name: string): Promise<void> {
    const parent = dirname(name);
    if (parent !== '.') await this.directory(parent);
    if (this.directories.has(name)) return;
    this.directories.add(name);
    await this.send(tarDirectoryHeader(name));
  }

  async file(name: string, sizeBytes: number, bytes: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<void> {
    await this.send(tarFileHeader(name, sizeBytes));
    for await (const chunk of bytes) await this.send(chunk);
    const padding = tarPadding(sizeBytes);
    if (padding.length > 0) await this.send(padding);
  }

  async end(): Promise<void> {
    await this.send(tarEnd());
  }
}

/** A directory of the node, which this makes, or which is empty. */
export class DirectoryOutput implements ArchiveOutput {
  private constructor(private readonly root: string) {}

  static async open(root: string): Promise<DirectoryOutput> {
    try {
      await mkdir(root, { recursive: true });
      if ((await readdir(root)).length === 0) return new DirectoryOutput(root);
    } catch (error) {
      throw new BerthError('failed_precondition', `save to ${root}: ${messageOf(error)}`, { cause: error });
    }
    throw new BerthError('failed_precondition', `save to ${root}: the directory is not empty`, {
      hint: 'name one that is not there yet',
    });
  }

  async directory(name: string): Promise<void> {
    await mkdir(join(this.root, name), { recursive: true });
  }

  async file(name: string, _sizeBytes: number, bytes: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<void> {
    await using file = await open(join(this.root, name), 'wx', 0o644);
    try {
      for await (const chunk of bytes) await file.writeFile(chunk);
    } catch (error) {
      throw fullDisk(error, `save to ${this.root}`);
    }
  }

  async end(): Promise<void> {
    // All files have their names already.
  }
}
