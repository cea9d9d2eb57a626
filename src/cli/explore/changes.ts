import type { ImageTree } from './image-tree';
import { CHANGES, inOrder, marksOf } from './marks';
import { nameText } from './names';
import type { Difference, Kind } from './records';

/** What a layer did to one path. */
export interface LayerChange {
  readonly kind: Kind;
  /** As the image has it: not for a terminal. */
  readonly path: string;
  readonly type: string;
  /** Of a file; for one that was removed, what it had. */
  readonly sizeBytes: number;
  /** What of it is another, where it was changed; nothing, when it was only written again. */
  readonly differences?: readonly Difference[];
}

/** All that a layer did, counted from 0, in the order of paths. */
export function* changesOf(tree: ImageTree, layer: number): Generator<LayerChange> {
  const { records, paths } = tree;
  for (const path of inOrder(paths, marksOf(tree, layer), CHANGES)) {
    const record = tree.lastOf(path, layer);
    const kind = records.kindOf(record);
    yield {
      kind,
      path: nameText(paths.fullName(path)),
      type: typeName(records.typeOf(record)),
      sizeBytes: records.sizeOf(record),
      ...(kind === 'changed' ? { differences: records.differences(records.previous.get(record), record) } : {}),
    };
  }
}

export function typeName(letter: string): string {
  return TYPE_NAMES[letter] ?? letter;
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  d: 'directory',
  f: 'file',
  l: 'link',
  c: 'character device',
  b: 'block device',
  p: 'fifo',
};
