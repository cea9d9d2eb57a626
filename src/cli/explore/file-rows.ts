import type { ImageTree } from './image-tree';
import { MARK, marksOf, type Marks } from './marks';

/** What of a layer's files is to be seen. */
export interface Wanted {
  /** Bits of `MARK`. */
  readonly marks: number;
  readonly order: 'name' | 'size';
  /** Part of a name, in the manifests' writing; empty for all. */
  readonly name: string;
}

export interface FileRow {
  readonly path: number;
  readonly depth: number;
}

/** The files as they are after a layer, and which of them are shown, line by line. */
export class FileRows {
  private readonly marks: Marks;
  private readonly bytes: Float64Array;
  /** 1 for what the name that is looked for lets through, 2 for directories that have such in them. */
  private readonly found: Uint8Array | undefined;

  constructor(
    private readonly tree: ImageTree,
    private readonly layer: number,
    private readonly wanted: Wanted,
  ) {
    this.marks = marksOf(tree, layer);
    this.bytes = sizesOf(tree, layer, this.marks, wanted.marks);
    this.found = wanted.name === '' ? undefined : findNames(tree, this.marks, wanted);
  }

  /** The lines, of directories that are unfolded and of those that have in them what is looked for. */
  rows(unfolded: ReadonlySet<number>): FileRow[] {
    const rows: FileRow[] = [];
    const left: FileRow[] = [{ path: 0, depth: 0 }];
    for (let row = left.pop(); row; row = left.pop()) {
      const { path, depth } = row;
      if (path > 0) rows.push(row);
      if (path > 0 && !unfolded.has(path) && !this.isOnTheWay(path)) continue;
      for (const child of this.below(path).reverse()) left.push({ path: child, depth: path > 0 ? depth + 1 : 0 });
    }
    return rows;
  }

  /** What a path has to be unfolded for. */
  hasBelow(path: number): boolean {
    for (const child of this.tree.paths.childrenOf(path)) if (this.isShown(child)) return true;
    return false;
  }

  /** True for a directory that is open since something in it is looked for. */
  isOnTheWay(path: number): boolean {
    return ((this.found?.[path] ?? 0) & ON_THE_WAY) !== 0;
  }

  isShown(path: number): boolean {
    if (((this.marks.all[path] ?? 0) & this.wanted.marks) === 0) return false;
    return this.found === undefined || this.found[path] !== 0;
  }

  /** What happened to the path itself. */
  markOf(path: number): number {
    return this.marks.own[path] ?? 0;
  }

  /** Of a directory all that is shown in it. */
  bytesOf(path: number): number {
    return this.bytes[path] ?? 0;
  }

  recordOf(path: number): number {
    return this.tree.lastOf(path, this.layer);
  }

  private below(path: number): number[] {
    const { paths } = this.tree;
    const all = [...paths.childrenOf(path)].filter(child => this.isShown(child));
    const named = all.map(child => ({ child, name: paths.nameOf(child), bytes: this.bytesOf(child) }));
    const bySize = this.wanted.order === 'size';
    named.sort((a, b) => (bySize ? b.bytes - a.bytes : 0) || (a.name < b.name ? -1 : 1));
    return named.map(({ child }) => child);
  }
}

/** Bytes of each path with all below, of what has one of the marks. What is removed counts where all around it is, too. */
function sizesOf(tree: ImageTree, layer: number, { own }: Marks, wanted: number): Float64Array {
  const { records, paths } = tree;
  const onlyRemoved = (wanted & ~MARK.removed) === 0;
  const bytes = new Float64Array(own.length);
  for (let path = own.length - 1; path >= 0; path--) {
    const mark = own[path] ?? 0;
    const record = tree.lastOf(path, layer);
    const isRemoved = mark === MARK.removed;
    if ((mark & wanted) !== 0)
      bytes[path] = (bytes[path] ?? 0) + records.counted.get(isRemoved ? records.previous.get(record) : record);
    const parent = paths.parentOf(path);
    if (parent >= 0 && (!isRemoved || onlyRemoved || own[parent] === MARK.removed))
      bytes[parent] = (bytes[parent] ?? 0) + (bytes[path] ?? 0);
  }
  return bytes;
}

const FOUND = 1;
const ON_THE_WAY = 2;

function findNames({ paths }: ImageTree, { own }: Marks, { name, marks }: Wanted): Uint8Array {
  const found = new Uint8Array(own.length);
  for (let path = 1; path < own.length; path++)
    if (((own[path] ?? 0) & marks) !== 0 && paths.nameOf(path).includes(name)) found[path] = FOUND;
  for (let path = own.length - 1; path > 0; path--)
    if (found[path] !== 0) found[paths.parentOf(path)] = (found[paths.parentOf(path)] ?? 0) | ON_THE_WAY;
  // What is in a directory that was found can be looked at, too.
  for (let path = 1; path < own.length; path++)
    if (((found[paths.parentOf(path)] ?? 0) & FOUND) !== 0) found[path] = (found[path] ?? 0) | FOUND;
  return found;
}
