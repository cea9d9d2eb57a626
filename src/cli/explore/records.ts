import { Column } from './columns';
import type { ManifestEntry } from './manifest';
import { Texts } from './texts';

const KINDS = ['added', 'changed', 'removed'] as const;
export type Kind = (typeof KINDS)[number];

const TYPES = ['d', 'f', 'l', 'c', 'b', 'p'] as const satisfies readonly ManifestEntry['type'][];
/** Those that have a target or numbers. */
const WITH_TEXT = ['l', 'c', 'b'];

/** What of an object is another. */
export type Difference = 'type' | 'content' | 'target' | 'mode' | 'owner';

const KIND_BITS = 3;
const TYPE_AT = 2;
const TYPE_BITS = 7;
const MODE_AT = 5;

/** Of 32 bits, in the hash of what a file holds. */
const WORDS = 4;

export interface NewRecord {
  readonly path: number;
  readonly layer: number;
  readonly kind: Kind;
  /** The record that it takes the place of, or -1. */
  readonly previous: number;
  readonly entry: ManifestEntry;
  /** Names of one file have the same, 0 for a file with one name. */
  readonly links: number;
}

/**
 * What layers did to paths, by number: what a layer has at a path from then on, or that it removed what was there. The
 * records of a path are a chain, the last layer's first.
 */
export class Records {
  readonly path = Column.ints();
  readonly layer = Column.ints();
  readonly previous = Column.ints();
  /** What of a file is counted here: one with several names is counted at its first. */
  readonly counted = Column.sizes();
  /** What of a file is not needed any more: a later layer has replaced or removed its last name. */
  readonly wasted = Column.sizes();
  /** In bits: the kind, the type, and the mode. */
  private readonly facts = Column.ints();
  private readonly links = Column.ints();
  private readonly uids = Column.ints();
  private readonly gids = Column.ints();
  private readonly sizes = Column.sizes();
  /** Four for each: the hash of what a file holds; of what has a text, its number. */
  private readonly contents = Column.ints();
  private readonly texts = new Texts();

  get count(): number {
    return this.path.length;
  }

  /** Its number. */
  add({ path, layer, kind, previous, entry, links }: NewRecord): number {
    this.begin(path, layer, previous, links);
    this.facts.push(KINDS.indexOf(kind) | (TYPES.indexOf(entry.type) << TYPE_AT) | (entry.mode << MODE_AT));
    this.uids.push(entry.uid);
    this.gids.push(entry.gid);
    this.sizes.push(entry.sizeBytes);
    for (const word of this.wordsOf(entry)) this.contents.push(word);
    return this.count - 1;
  }

  /** The record of a removal remembers what there was. */
  addRemoval(layer: number, previous: number): number {
    this.begin(this.path.get(previous), layer, previous, 0);
    this.facts.push((this.facts.get(previous) & ~KIND_BITS) | KINDS.indexOf('removed'));
    for (const column of [this.uids, this.gids, this.sizes]) column.push(column.get(previous));
    for (let i = 0; i < WORDS; i++) this.contents.push(this.contents.get(previous * WORDS + i));
    return this.count - 1;
  }

  kindOf(record: number): Kind {
    return KINDS[this.facts.get(record) & KIND_BITS] ?? 'removed';
  }

  linksOf(record: number): number {
    return this.links.get(record);
  }

  typeOf(record: number): ManifestEntry['type'] {
    return TYPES[(this.facts.get(record) >> TYPE_AT) & TYPE_BITS] ?? 'p';
  }

  isDirectory(record: number): boolean {
    return this.typeOf(record) === 'd';
  }

  modeOf(record: number): number {
    return this.facts.get(record) >> MODE_AT;
  }

  uidOf(record: number): number {
    return this.uids.get(record) >>> 0;
  }

  gidOf(record: number): number {
    return this.gids.get(record) >>> 0;
  }

  /** Of a file; 0 of everything else. */
  sizeOf(record: number): number {
    return this.sizes.get(record);
  }

  /** The target of a link or the numbers of a device, in the manifests' writing; empty for others. */
  textOf(record: number): string {
    return WITH_TEXT.includes(this.typeOf(record)) ? this.texts.get(this.contents.get(record * WORDS)) : '';
  }

  /** True for a directory that has the same attributes. */
  isLike(record: number, { type, mode, uid, gid }: ManifestEntry): boolean {
    const isSame = this.modeOf(record) === mode && this.uidOf(record) === uid && this.gidOf(record) === gid;
    return type === 'd' && this.isDirectory(record) && isSame;
  }

  /**
   * What tells two objects apart. Times are not looked at, and neither are extended attributes, of which overlays have
   * some of their own.
   */
  differences(record: number, other: number, others: Records = this): Difference[] {
    if (this.typeOf(record) !== others.typeOf(other)) return ['type'];
    const found: Difference[] = [];
    if (this.typeOf(record) === 'f' && !this.holdsSame(record, other, others)) found.push('content');
    if (this.textOf(record) !== others.textOf(other)) found.push('target');
    if (this.modeOf(record) !== others.modeOf(other)) found.push('mode');
    const hasOwner = this.uidOf(record) === others.uidOf(other) && this.gidOf(record) === others.gidOf(other);
    return hasOwner ? found : [...found, 'owner'];
  }

  private holdsSame(record: number, other: number, others: Records): boolean {
    if (this.sizeOf(record) !== others.sizeOf(other)) return false;
    for (let i = 0; i < WORDS; i++)
      if (this.contents.get(record * WORDS + i) !== others.contents.get(other * WORDS + i)) return false;
    return true;
  }

  private begin(path: number, layer: number, previous: number, links: number): void {
    this.path.push(path);
    this.layer.push(layer);
    this.previous.push(previous);
    this.links.push(links);
    this.counted.push(0);
    this.wasted.push(0);
  }

  private wordsOf({ type, content }: ManifestEntry): number[] {
    if (type === 'f') return [0, 8, 16, 24].map(at => parseInt(content.slice(at, at + 8), 16));
    return [WITH_TEXT.includes(type) ? this.texts.add(content) : 0, 0, 0, 0];
  }
}
