import { Column } from './columns';
import type { ManifestEntry, ManifestSink } from './manifest';
import { Paths } from './paths';
import { Records, type Kind } from './records';

/** What a layer did, and what became of it. Bytes are those that files hold; a file with several names counts once. */
export interface LayerSums {
  /** What it brought, needed or not. */
  bytes: number;
  /** What of that later layers have replaced or removed. */
  wastedBytes: number;
  added: number;
  changed: number;
  removed: number;
}

/** A file with several names: `alive` counts those that no later layer has replaced or removed. */
interface HardLinks {
  readonly bytes: number;
  alive: number;
}

/**
 * A directory with this hash of extended attributes hides what lower layers have in it: `trusted.overlay.opaque`, alone and
 * with `trusted.overlay.impure`. One that has attributes of people's besides is not known as such.
 */
const OPAQUE = new Set(['549ced704e818c98', 'e9de4fde0a524463']);

/** How overlays say that a path is gone: a character device of these numbers. */
const WHITEOUT = '0:0';

/**
 * The files of an image, layer upon layer as an overlay shows them. Layers are put on from the base up, each with `begin`
 * and the objects of its manifest.
 */
export class ImageTree implements ManifestSink {
  readonly records = new Records();
  readonly layers: LayerSums[] = [];
  /** The last record of each path, or -1. */
  private readonly heads = Column.ints();
  private readonly links: HardLinks[] = [];
  /** How many links there were before this layer, which counts its own from 1. */
  private linksBefore = 0;
  /** The directories that the manifest is in. */
  private readonly inside: number[] = [];

  /** @param paths may be those of another image, to be compared with this one */
  constructor(readonly paths = new Paths()) {}

  get bytes(): number {
    return this.layers.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get wastedBytes(): number {
    return this.layers.reduce((sum, { wastedBytes }) => sum + wastedBytes, 0);
  }

  /** How much of what layers have brought is still there in the end, from 0 to 1. */
  get efficiency(): number {
    return this.bytes === 0 ? 1 : 1 - this.wastedBytes / this.bytes;
  }

  /** The record of what is at a path once the layer, or the last one, has been put on; -1 where nothing is. */
  present(path: number, layer = this.layers.length - 1): number {
    const record = this.lastOf(path, layer);
    return record >= 0 && this.records.kindOf(record) !== 'removed' ? record : -1;
  }

  /** The last that this layer or one below did to a path, or -1. */
  lastOf(path: number, layer: number): number {
    let record = path < this.heads.length ? this.heads.get(path) : -1;
    while (record >= 0 && this.records.layer.get(record) > layer) record = this.records.previous.get(record);
    return record;
  }

  /** A layer begins. */
  begin(): void {
    this.layers.push({ bytes: 0, wastedBytes: 0, added: 0, changed: 0, removed: 0 });
    this.linksBefore = this.links.length;
    this.inside.length = 0;
  }

  enter(directory: ManifestEntry): void {
    const path = this.inside.length === 0 ? 0 : this.pathOf(directory);
    this.inside.push(path);
    const below = this.present(path);
    if (below < 0 || !this.records.isDirectory(below)) return this.place(path, directory);
    if (OPAQUE.has(directory.xattrs)) this.removeContents(path);
    if (this.records.isLike(below, directory)) return;
    this.write(path, 'changed', below, directory);
  }

  leave(): void {
    this.inside.pop();
  }

  put(entry: ManifestEntry): void {
    const path = this.pathOf(entry);
    if (entry.type === 'c' && entry.content === WHITEOUT) this.remove(path);
    else this.place(path, entry);
  }

  private pathOf({ name }: ManifestEntry): number {
    return this.paths.child(this.inside.at(-1) ?? 0, name);
  }

  /** Puts something where nothing is, or in the place of what is there. */
  private place(path: number, entry: ManifestEntry): void {
    const last = this.lastOf(path, this.top);
    if (last < 0) return this.write(path, 'added', -1, entry);
    if (this.records.kindOf(last) !== 'removed') {
      this.remove(path);
      return this.place(path, entry);
    }
    if (this.records.layer.get(last) !== this.top) return this.write(path, 'added', last, entry);
    // What this layer itself has hidden is back: then it has changed it, or has left a directory as it was.
    const before = this.records.previous.get(last);
    this.sums.removed--;
    if (entry.type === 'd' && this.records.isLike(before, entry)) this.setHead(path, before);
    else this.write(path, 'changed', before, entry);
  }

  private write(path: number, kind: Kind, previous: number, entry: ManifestEntry): void {
    const links = entry.group > 0 ? this.linksBefore + entry.group : 0;
    const record = this.records.add({ path, layer: this.top, kind, previous, entry, links });
    this.setHead(path, record);
    this.sums[kind]++;
    const known = links > 0 ? this.links[links - 1] : undefined;
    if (known) known.alive++;
    else {
      if (links > 0) this.links.push({ bytes: entry.sizeBytes, alive: 1 });
      this.records.counted.set(record, entry.sizeBytes);
      this.sums.bytes += entry.sizeBytes;
    }
  }

  /** Removes what is at a path with all below. */
  private remove(path: number): void {
    const left = [path];
    for (let at = left.pop(); at !== undefined; at = left.pop()) {
      const record = this.present(at);
      if (record < 0) continue;
      // One by one: a directory may have more than a call can have arguments.
      if (this.records.isDirectory(record)) for (const child of this.paths.childrenOf(at)) left.push(child);
      this.waste(record);
      this.setHead(at, this.records.addRemoval(this.top, record));
      this.sums.removed++;
    }
  }

  private removeContents(path: number): void {
    for (const child of this.paths.childrenOf(path)) this.remove(child);
  }

  /** Nobody sees it any more. */
  private waste(record: number): void {
    const links = this.links[this.records.linksOf(record) - 1];
    if (links && --links.alive > 0) return;
    const bytes = links?.bytes ?? this.records.sizeOf(record);
    this.records.wasted.set(record, bytes);
    const sums = this.layers[this.records.layer.get(record)];
    if (sums) sums.wastedBytes += bytes;
  }

  private get top(): number {
    return this.layers.length - 1;
  }

  private get sums(): LayerSums {
    const sums = this.layers.at(-1);
    if (!sums) throw new Error('a layer is begun before its objects come');
    return sums;
  }

  private setHead(path: number, record: number): void {
    while (this.heads.length <= path) this.heads.push(-1);
    this.heads.set(path, record);
  }
}
