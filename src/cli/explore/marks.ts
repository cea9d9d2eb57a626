import type { ImageTree } from './image-tree';
import type { Paths } from './paths';
import type { Kind } from './records';

/** Bits: what happened to a path, or to something below a directory. */
export const MARK: Readonly<Record<Kind | 'unchanged', number>> = { added: 1, changed: 2, removed: 4, unchanged: 8 };

export const CHANGES = MARK.added | MARK.changed | MARK.removed;

/** What there is to show of paths, by their numbers. */
export interface Marks {
  /** Of the path itself; 0 where nothing is and was. */
  readonly own: Uint8Array;
  /** Of it and all below. */
  readonly all: Uint8Array;
}

/** What a layer did, counted from 0. */
export function marksOf(tree: ImageTree, layer: number): Marks {
  const { records } = tree;
  const own = new Uint8Array(tree.paths.count);
  for (let path = 0; path < own.length; path++) {
    const record = tree.lastOf(path, layer);
    if (record < 0) continue;
    const kind = records.kindOf(record);
    if (records.layer.get(record) === layer) own[path] = MARK[kind];
    else if (kind !== 'removed') own[path] = MARK.unchanged;
  }
  return { own, all: upwards(tree.paths, own) };
}

/** Every directory with the marks of what is below: directories have lower numbers than what is in them. */
export function upwards(paths: Paths, own: Uint8Array): Uint8Array {
  const all = own.slice();
  for (let path = all.length - 1; path > 0; path--) {
    const parent = paths.parentOf(path);
    all[parent] = (all[parent] ?? 0) | (all[path] ?? 0);
  }
  return all;
}

/** All paths that have one of these marks, directories before what is in them, by name. */
export function* inOrder(paths: Paths, { own, all }: Marks, wanted: number): Generator<number> {
  const left = [0];
  for (let path = left.pop(); path !== undefined; path = left.pop()) {
    if (((own[path] ?? 0) & wanted) !== 0) yield path;
    const below = [...paths.childrenOf(path)].filter(child => ((all[child] ?? 0) & wanted) !== 0);
    for (const child of byName(paths, below).reverse()) left.push(child);
  }
}

function byName(paths: Paths, some: readonly number[]): number[] {
  const named = some.map(path => ({ path, name: paths.nameOf(path) }));
  return named.sort((a, b) => (a.name < b.name ? -1 : 1)).map(({ path }) => path);
}
