import type { ImageTree } from './image-tree';
import type { Kind } from './records';

/** What a later layer replaced or removed of a file. Layers are counted from 0. */
export interface Loss {
  readonly bytes: number;
  /** Which layer brought it, which one did it, and how. */
  readonly layer: number;
  readonly by: number;
  readonly how: Exclude<Kind, 'added'>;
}

/** A path at which bytes are wasted. */
export interface WastedPath {
  readonly path: number;
  readonly bytes: number;
  /** The last first. */
  readonly losses: readonly Loss[];
}

/** The paths at which most is wasted, most first. */
export function mostWasted(tree: ImageTree, count: number): WastedPath[] {
  const { records, paths } = tree;
  const bytes = new Float64Array(paths.count);
  for (let record = 0; record < records.count; record++) {
    const path = records.path.get(record);
    bytes[path] = (bytes[path] ?? 0) + records.wasted.get(record);
  }
  const most = highest(bytes, count);
  return most.map(path => ({ path, bytes: bytes[path] ?? 0, losses: lossesAt(tree, path) }));
}

/** The places of the highest numbers above 0, the highest first. */
function highest(numbers: Float64Array, count: number): number[] {
  const places: number[] = [];
  numbers.forEach((_, place) => void (numbers[place] !== 0 && places.push(place)));
  return places.sort((a, b) => (numbers[b] ?? 0) - (numbers[a] ?? 0) || a - b).slice(0, count);
}

function lossesAt(tree: ImageTree, path: number): Loss[] {
  const { records } = tree;
  const losses: Loss[] = [];
  let later = tree.lastOf(path, tree.layers.length - 1);
  for (let record = records.previous.get(later); later >= 0 && record >= 0; record = records.previous.get(record)) {
    const bytes = records.wasted.get(record);
    const how = records.kindOf(later) === 'removed' ? 'removed' : 'changed';
    if (bytes > 0) losses.push({ bytes, layer: records.layer.get(record), by: records.layer.get(later), how });
    later = record;
  }
  return losses;
}
