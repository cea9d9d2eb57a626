import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError, isAbsent, messageOf } from '../base/errors';
import { randomHexId } from '../base/ids';
import { KeyedLock } from '../base/keyed-lock';
import type { Logger } from '../base/log';
import { removeTree } from '../process/files';
import { Holds } from './holds';

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
  /** A first container is being given what its image has: until this is gone, nobody else has written into it. */
  isFilling?: true;
}

/** As docker has it. */
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$/;

/** What is not yet, and no longer, a volume. */
const LEFT = /^\.(new|gone)-/;

/**
 * The volumes of people. The directories themselves say which there are: `<name>/data` is what is mounted, and
 * `<name>/volume.json` beside it has the rest.
 */
export class Volumes {
  /** One change of a volume at a time. */
  private readonly locks = new KeyedLock();
  /** By path: one container at a time finds out whether it fills a volume, and does. */
  readonly fills = new KeyedLock();
  /** By name: containers that have no record yet. */
  private readonly holds = new Holds();

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
      const { createdAtNs, labels, isAnonymous = false } = await this.read(name);
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
    const names = await this.names();
    const found = await Promise.all(names.filter(name => NAME.test(name)).map(name => this.find(name)));
    return found.filter(volume => volume !== undefined).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Until it is disposed none of these can be removed, whether they are there yet or not. */
  hold(names: readonly string[]): Disposable {
    const held = names.map(name => this.holds.hold(name));
    return {
      [Symbol.dispose]: () => {
        for (const one of held) one[Symbol.dispose]();
      },
    };
  }

  /** Takes it away with all that is in it; `assertUnused` is asked last, and keeps it by throwing. */
  async remove(name: string, assertUnused: () => void): Promise<void> {
    const gone = await this.locks.run(name, async () => {
      assertUnused();
      if (this.holds.isHeld(name)) {
        throw new BerthError('failed_precondition', `volume ${name} is for a container that is being created`, {
          hint: 'remove the container first',
        });
      }
      return this.moveAway(join(this.dir, name));
    });
    await removeTree(gone);
  }

  /** Removes what half-made and half-removed volumes have left: their daemon has ended. Returns before all is gone. */
  async sweep(log: Logger): Promise<void> {
    const left = (await this.names()).filter(name => LEFT.test(name)).map(name => join(this.dir, name));
    const removeAll = async () => {
      for (const path of left) await removeTree(path);
    };
    removeAll().catch((error: unknown) => log.warn(`could not remove what a volume has left: ${messageOf(error)}`));
  }

  /** The name of the volume that a path of a mount is; undefined for all other paths. */
  nameOf(path: string): string | undefined {
    if (!path.startsWith(`${this.dir}/`) || !path.endsWith('/data')) return undefined;
    const name = path.slice(this.dir.length + 1, -'/data'.length);
    return NAME.test(name) ? name : undefined;
  }

  /**
   * True for an empty volume: a container that is created takes what its image has in its place, and `endFill` says
   * that it has. `isShared`: other containers have it. One whose first filling was cut off is emptied and filled anew.
   */
  async beginFill(path: string, isShared: boolean): Promise<boolean> {
    const name = this.nameOf(path);
    if (name === undefined) return false;
    return this.locks.run(name, async () => {
      const file = await this.read(name);
      if (file.isFilling) await this.empty(path);
      if ((await readdir(path)).length > 0) return false;
      // What others write meanwhile is not to be taken for a filling that was cut off.
      if (!isShared) await this.write(join(this.dir, name), { ...file, isFilling: true });
      return true;
    });
  }

  async endFill(path: string): Promise<void> {
    await this.leaveFill(path, () => Promise.resolve());
  }

  /** Its container was not created: the volume is empty again, and keeps whatever somebody puts into it. */
  async undoFill(path: string): Promise<void> {
    await this.leaveFill(path, () => this.empty(path));
  }

  private async leaveFill(path: string, before: () => Promise<void>): Promise<void> {
    const name = this.nameOf(path);
    if (name === undefined) return;
    await this.locks.run(name, async () => {
      const { isFilling, ...file } = await this.read(name);
      if (!isFilling) return;
      await before();
      await this.write(join(this.dir, name), file);
    });
  }

  /** Removing may take long: a daemon that is killed meanwhile leaves a volume that can be mounted, or emptied again. */
  private async empty(path: string): Promise<void> {
    const gone = await this.moveAway(path).catch((error: unknown) => {
      if (isAbsent(error)) return undefined;
      throw error;
    });
    await mkdir(path, { mode: 0o755 });
    if (gone !== undefined) await removeTree(gone);
  }

  private async make(
    name: string,
    { labels, isAnonymous }: Pick<VolumeFile, 'labels' | 'isAnonymous'>,
  ): Promise<Volume> {
    const createdAtNs = BigInt(Date.now()) * 1_000_000n;
    const fresh = join(this.dir, `.new-${randomUUID()}`);
    await mkdir(join(fresh, 'data'), { recursive: true, mode: 0o755 });
    const file: VolumeFile = { createdAtNs: String(createdAtNs), labels, ...(isAnonymous ? { isAnonymous } : {}) };
    await this.write(fresh, file);
    // Whole or not at all: a name that is there has both.
    await rename(fresh, join(this.dir, name));
    return { name, path: this.pathOf(name), createdAtNs, labels, isAnonymous: isAnonymous ?? false };
  }

  private async read(name: string): Promise<VolumeFile> {
    const path = join(this.dir, name, 'volume.json');
    const text = await readFile(path, 'utf8');
    try {
      return JSON.parse(text) as VolumeFile;
    } catch (error) {
      throw new BerthError('data_loss', `volume ${name}: ${path} is damaged: ${messageOf(error)}`, {
        cause: error,
        hint: `its files are sound, in ${this.pathOf(name)}; write {"createdAtNs":"0","labels":{}} into that file`,
      });
    }
  }

  private async write(dir: string, file: VolumeFile): Promise<void> {
    const fresh = join(dir, 'volume.json.new');
    await writeFile(fresh, JSON.stringify(file), { flush: true });
    await rename(fresh, join(dir, 'volume.json'));
  }

  private async moveAway(path: string): Promise<string> {
    const gone = join(this.dir, `.gone-${randomUUID()}`);
    await rename(path, gone);
    return gone;
  }

  private async names(): Promise<string[]> {
    return readdir(this.dir).catch((error: unknown) => {
      if (isAbsent(error)) return [];
      throw error;
    });
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
