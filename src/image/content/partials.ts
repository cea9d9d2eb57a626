import { mkdir, open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { isAbsent } from '../../base/errors';
import { randomHexId } from '../../base/ids';
import { algorithmOf, hexOf, isDigest, type Digest } from '../digest';
import { removeAtOnce } from './content';

/** What is being deleted; the next start goes on with it. */
const gone = 'gone-';

/** The beginning of a layer's blob, which berth-unpack adds to while the rest arrives. */
export interface Partial {
  readonly file: FileHandle;
  readonly path: string;
  /** What was there when it was opened. */
  readonly sizeBytes: number;
  /** Forgets what is there: the source cannot go on where it was, or the bytes were wrong. */
  reset(): Promise<void>;
  close(): Promise<void>;
}

export interface PartialFile {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly ageMs: number;
}

/** Beginnings of blobs, `<algorithm>-<hex>`; whoever writes one has its layer's flight. Never trusted, never synced. */
export class Partials {
  private constructor(private readonly root: string) {}

  static async open(root: string): Promise<Partials> {
    await mkdir(root, { recursive: true, mode: 0o700 });
    for (const name of await readdir(root)) if (name.startsWith(gone)) await rm(join(root, name), { force: true });
    return new Partials(root);
  }

  /** Opens or makes the file; one that is as long as the whole may be wrong and is as good as any other. */
  async begin(digest: Digest, sizeBytes: number): Promise<Partial> {
    const path = this.pathOf(digest);
    const file = await open(path, 'a+', 0o600).then(async made => {
      await made.close();
      return open(path, 'r+');
    });
    let { size } = await file.stat();
    if (size > sizeBytes) {
      await file.truncate(0);
      size = 0;
    }
    return {
      file,
      path,
      sizeBytes: size,
      reset: () => file.truncate(0),
      close: () => file.close(),
    };
  }

  async sizeOf(digest: Digest): Promise<number> {
    try {
      return (await stat(this.pathOf(digest))).size;
    } catch (error) {
      if (isAbsent(error)) return 0;
      throw error;
    }
  }

  /** It has gone from its name when this returns its promise: a pull that comes then begins anew. */
  async remove(digest: Digest): Promise<void> {
    await removeAtOnce(this.pathOf(digest), join(this.root, gone + randomHexId()));
  }

  /** Gives the whole blob its place elsewhere. */
  async moveTo(digest: Digest, path: string): Promise<void> {
    await rename(this.pathOf(digest), path);
  }

  async list(): Promise<PartialFile[]> {
    const found: PartialFile[] = [];
    for (const name of await readdir(this.root)) {
      const digest = name.replace('-', ':');
      if (!isDigest(digest)) continue;
      try {
        const { size, mtimeMs } = await stat(this.pathOf(digest));
        found.push({ digest, sizeBytes: size, ageMs: Date.now() - mtimeMs });
      } catch (error) {
        if (!isAbsent(error)) throw error;
      }
    }
    return found;
  }

  private pathOf(digest: Digest): string {
    return join(this.root, `${algorithmOf(digest)}-${hexOf(digest)}`);
  }
}
