import { createHash } from 'node:crypto';
import { renameSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { crashPoint } from '../../base/crash-points';
import { randomHexId } from '../../base/ids';
import { BerthError, isAbsent } from '../../base/errors';
import { algorithmOf, digestOf, hexOf, isDigest, type Digest } from '../digest';

/**
 * Blobs by digest: `blobs/<algorithm>/<hex>`. A file that has its name has its
 * contents, whole and on disk: it was written elsewhere, compared, synced, and
 * then renamed.
 */
export class Content {
  private constructor(private readonly root: string) {}

  /** Opens the content below `root`; what an earlier process left half-written is removed. */
  static async open(root: string): Promise<Content> {
    await rm(join(root, 'ingest'), { recursive: true, force: true });
    for (const dir of ['ingest', 'blobs/sha256', 'blobs/sha512'])
      await mkdir(join(root, dir), { recursive: true, mode: 0o700 });
    return new Content(root);
  }

  /** Keeps `bytes`, which must have this digest and size; `what` names them in the error. Does nothing if they are here. */
  async ingest(digest: Digest, sizeBytes: number, bytes: Uint8Array, what: string): Promise<void> {
    if (bytes.length !== sizeBytes)
      throw new BerthError('data_loss', `${what} has ${bytes.length} bytes, and ${sizeBytes} were announced`);
    const found = digestOf(bytes, algorithmOf(digest));
    if (found !== digest) throw new BerthError('data_loss', `${what} has digest ${found}, and ${digest} was announced`);
    if (await this.read(digest)) return await this.sync(digest); // whoever wrote it may have been killed before that
    const temporary = join(this.root, 'ingest', randomHexId());
    try {
      await writeSynced(temporary, bytes);
      crashPoint('content.written');
      await rename(temporary, this.pathOf(digest));
      crashPoint('content.renamed');
      await syncPath(this.dirOf(digest));
    } catch (error) {
      await rm(temporary, { force: true });
      throw diskError(what, error);
    }
  }

  /** The blob, or undefined; its digest is compared again, since a manifest is worth more than a millisecond. */
  async read(digest: Digest): Promise<Buffer | undefined> {
    try {
      const bytes = await readFile(this.pathOf(digest));
      return digestOf(bytes, algorithmOf(digest)) === digest ? bytes : undefined;
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw error;
    }
  }

  /** Takes a file of the same file system over, whose contents have this digest: somebody has compared them. */
  async adopt(digest: Digest, path: string): Promise<void> {
    await syncPath(path);
    await rename(path, this.pathOf(digest));
    await syncPath(this.dirOf(digest));
  }

  /** Puts a blob on disk that somebody has given its name. */
  async sync(digest: Digest): Promise<void> {
    await syncPath(this.pathOf(digest));
    await syncPath(this.dirOf(digest));
  }

  /** The blob, however large, for reading by the caller, who closes it; undefined when it is not kept. */
  async open(digest: Digest): Promise<FileHandle | undefined> {
    try {
      return await open(this.pathOf(digest), 'r');
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw error;
    }
  }

  /** Its size, or undefined when it is not here. */
  async sizeOf(digest: Digest): Promise<number | undefined> {
    try {
      return (await stat(this.pathOf(digest))).size;
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw error;
    }
  }

  /** Whether it is here and has the digest of its name. */
  async isWhole(digest: Digest): Promise<boolean> {
    await using file = await this.open(digest);
    if (!file) return false;
    const hash = createHash(algorithmOf(digest));
    for await (const chunk of file.createReadStream({ autoClose: false, highWaterMark: 256 * 1024 }))
      hash.update(chunk as Buffer);
    return hash.digest('hex') === hexOf(digest);
  }

  async has(digest: Digest): Promise<boolean> {
    return (await this.sizeOf(digest)) !== undefined;
  }

  /** It has gone from its name when this returns its promise: who comes then, finds nothing and brings it anew. */
  async remove(digest: Digest): Promise<void> {
    await removeAtOnce(this.pathOf(digest), join(this.root, 'ingest', randomHexId()));
  }

  async list(): Promise<Digest[]> {
    const names = await Promise.all(
      (['sha256', 'sha512'] as const).map(async algorithm =>
        (await readdir(join(this.root, 'blobs', algorithm))).map(hex => `${algorithm}:${hex}`),
      ),
    );
    return names.flat().filter(isDigest);
  }

  private dirOf(digest: Digest): string {
    return join(this.root, 'blobs', algorithmOf(digest));
  }

  pathOf(digest: Digest): string {
    return join(this.dirOf(digest), hexOf(digest));
  }
}

/** Takes the name away now, and deletes the file, which may be large, by and by. No file is no error. */
export async function removeAtOnce(path: string, aside: string): Promise<void> {
  try {
    renameSync(path, aside);
  } catch (error) {
    if (isAbsent(error)) return;
    return await rm(path, { force: true }); // a disk may be too full for another name
  }
  await rm(aside, { force: true });
}

async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** A file or a directory. */
async function syncPath(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

function diskError(what: string, error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error;
  return new BerthError('resource_exhausted', `${what}: no space left on device`, {
    cause: error,
    hint: 'free some space and pull again',
  });
}
