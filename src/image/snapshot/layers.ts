import { readFileSync, renameSync } from 'node:fs';
import { mkdir, readdir, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { crashPoint } from '../../base/crash-points';
import { messageOf } from '../../base/errors';
import { randomHexId } from '../../base/ids';
import { KeyedLock } from '../../base/keyed-lock';
import type { Logger } from '../../base/log';
import type { Table, Versioned } from '../../store/store';
import { algorithmOf, hexOf, type Digest } from '../digest';

/** Where a layer came from: enough to fetch it again. */
export interface LayerBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly mediaType: string;
  /** `registry.example/app`; undefined when it came out of a file. */
  readonly repository: string | undefined;
}

/**
 * sound: on disk, and as it was unpacked. suspect: the machine went down while the
 * daemon ran, and nobody has looked since. damaged: not what it was.
 */
export type LayerState = 'sound' | 'suspect' | 'damaged';

/**
 * A layer that is unpacked: what is known of it, once. Its files are in
 * `<root>/<key>/fs`, beside their `manifest` and, until an image uses it, its
 * record in `facts`.
 */
export interface LayerRecord {
  readonly version: 2;
  readonly key: string;
  readonly diffId: Digest;
  readonly diskBytes: number;
  readonly inodes: number;
  /** It hides all layers below it. */
  readonly opaqueRoot: boolean;
  /** Unknown of layers that an earlier berth unpacked. */
  readonly blob: LayerBlob | undefined;
  readonly hasManifest: boolean;
  readonly state: LayerState;
}

/** Version 1 knew neither blobs nor manifests. */
export function upgradeLayer(old: Versioned): LayerRecord | undefined {
  if (old.version !== 1) return undefined;
  return { ...(old as unknown as LayerRecord), version: 2, blob: undefined, hasManifest: false, state: 'sound' };
}

export interface Layer extends LayerRecord {
  readonly dir: string;
  readonly manifestPath: string;
}

/** The key of a layer that is right on top of any other. */
export function layerKey(diffId: Digest): string {
  return `${algorithmOf(diffId)}-${hexOf(diffId)}`;
}

/** The key of a layer that is right only on top of its chain. */
export function chainKey(chainId: Digest): string {
  return `chain-${algorithmOf(chainId)}-${hexOf(chainId)}`;
}

/** Where a layer is being unpacked. */
export interface Begun {
  readonly dir: string;
  readonly manifestPath: string;
}

export interface LayersOptions {
  readonly root: string;
  readonly table: Table<LayerRecord>;
  readonly remove: (dir: string) => Promise<void>;
  /** Layers that no image has used yet are whole as long as the machine is up. */
  readonly sameBoot: boolean;
  readonly log: Logger;
}

interface Space {
  readonly bytes: number;
  readonly inodes: number;
}

/** Whoever had something removed hears so before the deleting begins, which takes the disk and a process each. */
const deletionPauseMs = 20;

const temporary = 'tmp-';
/** `trash-<random>-<bytes>-<inodes>`: what is being deleted still takes its space. */
const trash = 'trash-';
/** `old-<random>-<bytes>-<inodes>-<key>`: replaced, and perhaps below running containers. */
const old = 'old-';
const empty = 'empty';

/**
 * The unpacked layers. A directory with a layer's key is whole; whether it would
 * survive a power cut is known once it has a record, which is written with the
 * first image that uses it.
 */
export class Layers {
  private readonly known = new Map<string, Layer>();
  private readonly deletions = new KeyedLock();
  private readonly going = new Map<string, Space>();
  private readonly removals = new Set<Promise<void>>();
  private readonly root: string;

  private constructor(private readonly options: LayersOptions) {
    this.root = options.root;
  }

  /** Opens the layers below `root`; what an earlier process left half-done is removed. */
  static async open(options: LayersOptions): Promise<Layers> {
    const layers = new Layers(options);
    const { root, table } = options;
    await mkdir(join(root, empty), { recursive: true, mode: 0o700 });
    const present = new Set(await readdir(root));
    for (const name of present) {
      const key = keyIn(name);
      if (key === '' || present.has(key)) continue;
      // Killed between the two renames of a replacement: a damaged layer is more than none.
      renameSync(join(root, name), join(root, key));
      present.delete(name);
      present.add(key);
    }
    for (const record of table.list()) {
      if (present.has(record.key)) layers.known.set(record.key, layers.toLayer(record));
      else await table.remove(record.key);
    }
    for (const name of present) {
      if (name === empty || layers.known.has(name)) continue;
      const record = options.sameBoot ? readFacts(join(root, name), name) : undefined;
      if (record) layers.known.set(name, layers.toLayer(record));
      else if (name.startsWith(old)) layers.going.set(name, spaceIn(name));
      else void layers.discard(name, spaceIn(name), 'later');
    }
    return layers;
  }

  /** The layer `diffId`, unpacked by itself or on this chain. */
  find(diffId: Digest, chainId: Digest): Layer | undefined {
    return this.known.get(layerKey(diffId)) ?? this.known.get(chainKey(chainId));
  }

  get(key: string): Layer | undefined {
    return this.known.get(key);
  }

  /** Whether an image has used it: then its files are on the disk. */
  isRecorded(key: string): boolean {
    return this.options.table.get(key) !== undefined;
  }

  list(): Layer[] {
    return [...this.known.values()];
  }

  /** An empty directory to unpack into, for `keep`, `replace` or `giveUp`. */
  async begin(): Promise<Begun> {
    const home = join(this.root, `${temporary}${randomHexId().slice(0, 16)}`);
    await mkdir(join(home, 'fs'), { recursive: true, mode: 0o700 });
    return { dir: join(home, 'fs'), manifestPath: join(home, 'manifest') };
  }

  /** Whether something was replaced and is still here: it goes with the next collection that no container keeps it from. */
  get hasReplaced(): boolean {
    return [...this.going.keys()].some(name => name.startsWith(old));
  }

  /** Gives the finished directory its name, unless there is one already. The layer has no record yet: see `record`. */
  async keep(begun: Begun, record: LayerRecord): Promise<Layer> {
    const present = this.known.get(record.key);
    if (present) {
      await this.giveUp(begun);
      return present;
    }
    await writeFile(join(begun.dir, '..', 'facts'), JSON.stringify(record), { mode: 0o600 });
    crashPoint('layer.facts-written');
    await rename(join(begun.dir, '..'), join(this.root, record.key));
    crashPoint('layer.renamed');
    const layer = this.toLayer(record);
    this.known.set(layer.key, layer);
    return layer;
  }

  /** Puts the finished directory, which is on disk, in the place of a damaged one; who stands on that one still does. */
  async replace(begun: Begun, record: LayerRecord): Promise<Layer> {
    const before = this.known.get(record.key);
    const space = { bytes: before?.diskBytes ?? 0, inodes: before?.inodes ?? 0 };
    const aside = `${old}${randomHexId().slice(0, 16)}-${space.bytes}-${space.inodes}-${record.key}`;
    try {
      renameSync(join(this.root, record.key), join(this.root, aside));
      this.going.set(aside, space);
    } catch (error) {
      this.options.log.warn(`layer ${record.key} was gone: ${messageOf(error)}`);
    }
    crashPoint('heal.moved-aside');
    renameSync(join(begun.dir, '..'), join(this.root, record.key));
    crashPoint('heal.renamed');
    const layer = this.toLayer(record);
    this.known.set(layer.key, layer);
    await this.options.table.put(record.key, record);
    crashPoint('heal.recorded');
    return layer;
  }

  /** Resolves once it is gone: whoever hears of a failure finds nothing of it. */
  async giveUp({ dir }: Begun): Promise<void> {
    await this.discard(join(dir, '..').slice(this.root.length + 1), { bytes: 0, inodes: 0 }, 'now');
  }

  /** Writes the records that are missing; within a transaction, together with the image's record. */
  record(layers: readonly Layer[]): void {
    for (const layer of layers)
      if (!this.options.table.get(layer.key)) void this.options.table.put(layer.key, toRecord(layer));
  }

  /** Changes what is known of layers' soundness, on disk when it resolves. */
  async setState(keys: readonly string[], state: LayerState): Promise<void> {
    for (const key of keys) {
      const layer = this.known.get(key);
      if (!layer || layer.state === state) continue;
      const changed = { ...layer, state };
      this.known.set(key, changed);
      await this.options.table.put(key, toRecord(changed));
    }
  }

  /**
   * The lower directories of an overlay, top first, at least one; `layers` from the base up. A layer that comes again, as
   * builders make empty ones, is one directory, which overlayfs takes once: its uppermost place hides and shows all that
   * the lower ones do.
   */
  lowerDirs(layers: readonly Layer[]): string[] {
    const from = layers.findLastIndex(layer => layer.opaqueRoot);
    const dirs = layers.slice(Math.max(from, 0)).map(layer => layer.dir);
    return dirs.length > 0 ? [...new Set(dirs.reverse())] : [join(this.root, empty)];
  }

  /** What layers take on the disk; `all` includes those that are on their way out. */
  usage(which: 'all' | 'kept'): Space {
    const spaces = [
      ...(which === 'all' ? this.going.values() : []),
      ...this.list().map(layer => ({ bytes: layer.diskBytes, inodes: layer.inodes })),
    ];
    return spaces.reduce((sum, one) => ({ bytes: sum.bytes + one.bytes, inodes: sum.inodes + one.inodes }), {
      bytes: 0,
      inodes: 0,
    });
  }

  /** Keys of layers that no image has used yet and that are younger than this. */
  async unclaimed(ageMaxMs: number): Promise<Set<string>> {
    const keys = new Set<string>();
    for (const { key } of this.list().filter(layer => !this.options.table.get(layer.key))) {
      const home = await stat(join(this.root, key)).catch(() => undefined);
      if (home && Date.now() - home.ctimeMs < ageMaxMs) keys.add(key);
    }
    return keys;
  }

  /** Directories that nobody knows, by name; those being unpacked into or deleted are known. */
  async orphans(): Promise<string[]> {
    const names = await readdir(this.root);
    return names.filter(
      name => name !== empty && !this.known.has(name) && !this.going.has(name) && !name.startsWith(temporary),
    );
  }

  removeOrphan(name: string): void {
    void this.discard(name, { bytes: 0, inodes: 0 }, 'later');
  }

  /**
   * Removes the layers that `isUsed` says no of, and what was replaced once no
   * container `standsOn` it. They are gone when it resolves; the disk space follows.
   */
  async collect(isUsed: (key: string) => boolean, standsOn: (key: string) => boolean): Promise<void> {
    const unused = this.list().filter(({ key }) => !isUsed(key));
    for (const { key, diskBytes, inodes } of unused) {
      this.known.delete(key);
      void this.discard(key, { bytes: diskBytes, inodes }, 'later'); // renames at once, so that the same layer can come back meanwhile
      crashPoint('remove.layer-renamed');
    }
    for (const [name, space] of this.going)
      if (name.startsWith(old) && !standsOn(keyIn(name))) {
        this.going.delete(name);
        void this.discard(name, space, 'later');
      }
    await Promise.all(unused.map(({ key }) => this.options.table.remove(key)));
  }

  /** Waits for removals that are under way. */
  async settled(): Promise<void> {
    await Promise.all(this.removals);
  }

  private async discard(name: string, space: Space, when: 'now' | 'later'): Promise<void> {
    const { log, remove } = this.options;
    const gone = name.startsWith(trash) ? name : `${trash}${randomHexId().slice(0, 16)}-${space.bytes}-${space.inodes}`;
    try {
      if (gone !== name) renameSync(join(this.root, name), join(this.root, gone));
    } catch (error) {
      log.warn(`could not remove the layer directory ${name}: ${messageOf(error)}`);
      return;
    }
    this.going.set(gone, space);
    const deleted = async () => {
      await remove(join(this.root, gone));
      if (when === 'later') crashPoint('remove.deleted');
      this.going.delete(gone);
    };
    const removal = (when === 'now' ? deleted() : this.deletions.run('', () => sleep(deletionPauseMs).then(deleted)))
      .catch((error: unknown) =>
        log.warn(`could not remove ${join(this.root, gone)}: ${messageOf(error)}; it is tried again at the next start`),
      )
      .finally(() => this.removals.delete(removal));
    this.removals.add(removal);
    await removal;
  }

  private toLayer(record: LayerRecord): Layer {
    const home = join(this.root, record.key);
    return { ...record, dir: join(home, 'fs'), manifestPath: join(home, 'manifest') };
  }
}

function toRecord({ dir: _dir, manifestPath: _manifestPath, ...record }: Layer): LayerRecord {
  return record;
}

/** What `keep` wrote; undefined when it does not belong here. */
function readFacts(home: string, name: string): LayerRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(join(home, 'facts'), 'utf8')) as LayerRecord;
    return record.version === 2 && record.key === name ? record : undefined;
  } catch {
    return undefined;
  }
}

function spaceIn(name: string): Space {
  const [, bytes, inodes] = /^(?:trash|old)-[0-9a-f]+-(\d+)-(\d+)/.exec(name) ?? [];
  return { bytes: Number(bytes ?? 0), inodes: Number(inodes ?? 0) };
}

function keyIn(name: string): string {
  return /^old-[0-9a-f]+-\d+-\d+-(.*)$/.exec(name)?.[1] ?? '';
}
