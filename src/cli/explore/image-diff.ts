import { typeName } from './changes';
import type { ImageTree } from './image-tree';
import { CHANGES, inOrder, MARK, upwards } from './marks';
import { nameText } from './names';
import type { Difference } from './records';

/** What is not the same at one path of two images; a size is 0 for what is no file. */
export type PathDifference = {
  /** As the images have it: not for a terminal. */
  readonly path: string;
} & (
  | { readonly kind: 'added'; readonly type: string; readonly sizeBytes: number }
  | { readonly kind: 'removed'; readonly type: string; readonly sizeBytes: number }
  | {
      readonly kind: 'changed';
      readonly type: string;
      readonly sizeBytes: number;
      readonly sizeBytesBefore: number;
      readonly differences: readonly Difference[];
    }
);

/** What `after` has at its end that `before` has not, and the other way; both have the same `Paths`. In the order of paths. */
export function* imageDifferences(before: ImageTree, after: ImageTree): Generator<PathDifference> {
  const { paths } = after;
  const own = new Uint8Array(paths.count);
  for (let path = 0; path < own.length; path++) own[path] = markOf(before, after, path);
  for (const path of inOrder(paths, { own, all: upwards(paths, own) }, CHANGES))
    yield differenceAt(before, after, path);
}

function markOf(before: ImageTree, after: ImageTree, path: number): number {
  const [old, now] = [before.present(path), after.present(path)];
  if (old < 0) return now < 0 ? 0 : MARK.added;
  if (now < 0) return MARK.removed;
  return before.records.differences(old, now, after.records).length > 0 ? MARK.changed : MARK.unchanged;
}

function differenceAt(before: ImageTree, after: ImageTree, at: number): PathDifference {
  const [old, now] = [before.present(at), after.present(at)];
  const path = nameText(after.paths.fullName(at));
  const seen = (tree: ImageTree, record: number) => ({
    type: typeName(tree.records.typeOf(record)),
    sizeBytes: tree.records.sizeOf(record),
  });
  if (old < 0) return { kind: 'added', path, ...seen(after, now) };
  if (now < 0) return { kind: 'removed', path, ...seen(before, old) };
  const differences = before.records.differences(old, now, after.records);
  return { kind: 'changed', path, ...seen(after, now), sizeBytesBefore: before.records.sizeOf(old), differences };
}
