import { renameSync } from 'node:fs';
import { mkdir, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../base/errors';
import { randomHexId } from '../../base/ids';
import type { Logger } from '../../base/log';
import type { Table } from '../../store/store';
import { algorithmOf, hexOf, type Digest } from '../digest';

/** A layer that is unpacked: what is known of it, once. Its files are in `<root>/<key>/fs`. */
export interface LayerRecord {
  readonly version: 1;
  readonly key: string;
  readonly diffId: Digest;
  readonly diskBytes: number;
  readonly inodes: number;
  /** It hides all layers below it. */
  readonly opaqueRoot: boolean;
}

export interface Layer extends LayerRecord {
  readonly dir: string;
}

/** The key of a layer that is right on top of any other. */
export function layerKey(diffId: Digest): string {
  return `${algorithmOf(diffId)}-${hexOf(diffId)}`;
}

/** The key of a layer that is right only on top of its chain. */
export function chainKey(chainId: Digest): string {
  return `chain-${algorithmOf(chainId)}-${hexOf(chainId)}`;
}

const temporary = 'tmp-';
const trash = 'trash-';
const empty = 'empty';

/**
 * The unpacked layers. A directory with a layer's key is whole; whether it would
 * survive a power cut is known once it has a record, which is written with the
 * first image that uses it.
 */
export class Layers {
  private readonly known = new Map<string, Layer>();
  private readonly removals = new Set<Promise<void>>();

  private constructor(
    private readonly root: string,
    private readonly table: Table<LayerRecord>,
    private readonly remove: (dir: string) => Promise<void>,
    private readonly log: Logger,
  ) {}

  /** Opens the layers below `root`; what an earlier process left half-done, or without a record, is removed. */
  static async open(
    root: string,
    table: Table<LayerRecord>,
    remove: (dir: string) => Promise<void>,
    log: Logger,
  ): Promise<Layers> {
    const layers = new Layers(root, table, remove, log);
    await mkdir(join(root, empty), { recursive: true, mode: 0o700 });
    const present = new Set(await readdir(root));
    for (const record of table.list()) {
      if (present.has(record.key)) layers.known.set(record.key, layers.toLayer(record));
      else await table.remove(record.key);
    }
    for (const name of present) if (name !== empty && !layers.known.has(name)) layers.discard(name);
    return layers;
  }

  /** The layer `diffId`, unpacked by itself or on this chain. */
  find(diffId: Digest, chainId: Digest): Layer | undefined {
    return this.known.get(layerKey(diffId)) ?? this.known.get(chainKey(chainId));
  }

  get(key: string): Layer | undefined {
    return this.known.get(key);
  }

  list(): Layer[] {
    return [...this.known.values()];
  }

  /** An empty directory to unpack into, for `keep` or `giveUp`. */
  async begin(): Promise<string> {
    const dir = join(this.root, `${temporary}${randomHexId().slice(0, 16)}`, 'fs');
    await mkdir(dir, { recursive: true, mode: 0o700 });
    return dir;
  }

  /** Gives the finished directory its name. The layer has no record yet: see `record`. */
  async keep(dir: string, record: LayerRecord): Promise<Layer> {
    const layer = this.toLayer(record);
    await rename(join(dir, '..'), join(this.root, record.key));
    this.known.set(layer.key, layer);
    return layer;
  }

  giveUp(dir: string): void {
    this.discard(join(dir, '..').slice(this.root.length + 1));
  }

  /** Writes the records that are missing; within a transaction, together with the image's record. */
  record(layers: readonly Layer[]): void {
    for (const { version, key, diffId, diskBytes, inodes, opaqueRoot } of layers)
      if (!this.table.get(key)) void this.table.put(key, { version, key, diffId, diskBytes, inodes, opaqueRoot });
  }

  /** The lower directories of an overlay, top first, at least one; `layers` from the base up. */
  lowerDirs(layers: readonly Layer[]): string[] {
    const from = layers.findLastIndex(layer => layer.opaqueRoot);
    const dirs = layers.slice(Math.max(from, 0)).map(layer => layer.dir);
    return dirs.length > 0 ? dirs.reverse() : [join(this.root, empty)];
  }

  /** Removes the layers that `isUsed` says no of. They are gone when it resolves; the disk space follows. */
  async collect(isUsed: (key: string) => boolean): Promise<void> {
    const unused = [...this.known.keys()].filter(key => !isUsed(key));
    for (const key of unused) {
      this.known.delete(key);
      this.discard(key); // renames at once, so that the same layer can come back meanwhile
    }
    await Promise.all(unused.map(key => this.table.remove(key)));
  }

  /** Waits for removals that are under way. */
  async settled(): Promise<void> {
    await Promise.all(this.removals);
  }

  private discard(name: string): void {
    const bin = join(this.root, name.startsWith(trash) ? name : `${trash}${randomHexId().slice(0, 16)}`);
    try {
      if (!name.startsWith(trash)) renameSync(join(this.root, name), bin);
    } catch (error) {
      this.log.warn(`could not remove the layer directory ${name}: ${messageOf(error)}`);
      return;
    }
    const removal = this.remove(bin)
      .catch((error: unknown) =>
        this.log.warn(`could not remove ${bin}: ${messageOf(error)}; it is tried again at the next start`),
      )
      .finally(() => this.removals.delete(removal));
    this.removals.add(removal);
  }

  private toLayer(record: LayerRecord): Layer {
    return { ...record, dir: join(this.root, record.key, 'fs') };
  }
}
