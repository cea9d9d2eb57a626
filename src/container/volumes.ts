import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError, isAbsent } from '../base/errors';
import { randomHexId } from '../base/ids';
import { KeyedLock } from '../base/keyed-lock';

/** A directory of the node that containers share by its name, and that outlives them. */
export interface Volume {
  name: string;
  /** What is mounted. */
  path: string;
  createdAtNs: bigint;
  labels: Readonly<Record<string, string>>;
  /** Nobody gave it its name. */
  isAnonymous: boolean;
}

/** `volume.json`. */
interface VolumeFile {
  createdAtNs: string;
  labels: Record<string, string>;
  isAnonymous?: true;
}

/** As docker has it. */
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$/;

/**
 * The volumes of people. The directories themselves say which there are: `<name>/data` is what is mounted, and
 * `<name>/volume.json` beside it has the rest.
 */
export class Volumes {
  /** One change of a volume at a time. */
  private readonly locks = new KeyedLock();

  constructor(private readonly dir: string) {}

  /** The volume, which is made when it is not there. */
  async provide(name: string, labels: Record<string, string> = {}): Promise<Volume> {
    assertName(name);
    return this.locks.run(name, async () => (await this.find(name)) ?? this.make(name, { labels }));
  }

  /** A new volume with a name that is made up. */
  async provideAnonymous(labels: Record<string, string>): Promise<Volume> {
    return this.make(randomHexId(), { labels, isAnonymous: true });
  }

  async find(name: string): Promise<Volume | undefined> {
    try {
      const text = await readFile(join(this.dir, name, 'volume.json'), 'utf8');
      const { createdAtNs, labels, isAnonymous = false } = JSON.parse(text) as VolumeFile;
      return { name, path: this.pathOf(name), createdAtNs: BigInt(createdAtNs), labels, isAnonymous };
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw error;
    }
  }

  async get(name: string): Promise<Volume> {
    const found = NAME.test(name) ? await this.find(name) : undefined;
    if (found) return found;
    throw new BerthError('not_found', `no volume is called ${JSON.stringify(name)}`, {
      hint: 'berth volume ls lists those that are here',
    });
  }

  /** By name. */
  async list(): Promise<Volume[]> {
    const names = await readdir(this.dir).catch((error: unknown) => {
      if (isAbsent(error)) return [];
      throw error;
    });
    const found = await Promise.all(names.filter(name => NAME.test(name)).map(name => this.find(name)));
    return found.filter(volume => volume !== undefined).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Takes it away with all that is in it; `assertUnused` is asked last, and keeps it by throwing. */
  async remove(name: string, assertUnused: () => void): Promise<void> {
    await this.locks.run(name, async () => {
      assertUnused();
      const gone = join(this.dir, `.gone-${randomUUID()}`);
      await rename(join(this.dir, name), gone);
      await rm(gone, { recursive: true, force: true });
    });
  }

  /** The name of the volume that a path of a mount is; undefined for all other paths. */
  nameOf(path: string): string | undefined {
    if (!path.startsWith(`${this.dir}/`) || !path.endsWith('/data')) return undefined;
    const name = path.slice(this.dir.length + 1, -'/data'.length);
    return NAME.test(name) ? name : undefined;
  }

  /** True for a volume that nothing was written into: it takes what the image has in its place. */
  async isFresh(path: string): Promise<boolean> {
    return this.nameOf(path) !== undefined && (await readdir(path)).length === 0;
  }

  private async make(
    name: string,
    { labels, isAnonymous }: Pick<VolumeFile, 'labels' | 'isAnonymous'>,
  ): Promise<Volume> {
    const createdAtNs = BigInt(Date.now()) * 1_000_000n;
    const fresh = join(this.dir, `.new-${randomUUID()}`);
    await mkdir(join(fresh, 'data'), { recursive: true, mode: 0o755 });
    const file: VolumeFile = { createdAtNs: String(createdAtNs), labels, ...(isAnonymous ? { isAnonymous } : {}) };
    await writeFile(join(fresh, 'volume.json'), JSON.stringify(file));
    // Whole or not at all: a name that is there has both.
    await rename(fresh, join(this.dir, name));
    return { name, path: this.pathOf(name), createdAtNs, labels, isAnonymous: isAnonymous ?? false };
  }

  private pathOf(name: string): string {
    return join(this.dir, name, 'data');
  }
}

function assertName(name: string): void {
  if (NAME.test(name)) return;
  throw new BerthError('invalid_argument', `${JSON.stringify(name)} cannot be a volume's name`, {
    hint: 'use letters, digits, "_", "." and "-", a letter or digit first, two at least; paths begin with / or ./',
  });
}
