import { setImmediate as nextTurn } from 'node:timers/promises';

/** Of files and the like: some milliseconds of work. */
const batchSize = 2000;

/** A list that may be long, piece by piece; between two pieces whatever else there is to do has its turn. */
export async function* inBatches<T>(items: readonly T[], size = batchSize): AsyncGenerator<readonly T[]> {
  for (let i = 0; i < items.length; i += size) {
    if (i > 0) await nextTurn();
    yield items.slice(i, i + size);
  }
}

/** Those of a list that may be long for which `holds`. */
export async function filterInBatches<T>(items: readonly T[], holds: (item: T) => boolean): Promise<T[]> {
  const kept: T[] = [];
  for await (const batch of inBatches(items)) for (const item of batch) if (holds(item)) kept.push(item);
  return kept;
}

/** The items in their order, which is the one before for those that `compare` finds equal. */
export async function sortInBatches<T extends object>(
  items: readonly T[],
  compare: (a: T, b: T) => number,
  size = batchSize,
): Promise<T[]> {
  let runs: T[][] = [];
  for await (const batch of inBatches(items, size)) runs.push([...batch].sort(compare));
  while (runs.length > 1) {
    const longer: T[][] = [];
    for (let i = 0; i < runs.length; i += 2) longer.push(await merged(runs[i] ?? [], runs[i + 1] ?? [], compare, size));
    runs = longer;
  }
  return runs[0] ?? [];
}

async function merged<T extends object>(
  one: readonly T[],
  other: readonly T[],
  compare: (a: T, b: T) => number,
  size: number,
): Promise<T[]> {
  if (other.length === 0) return [...one];
  const all: T[] = [];
  for (let i = 0, j = 0; i + j < one.length + other.length;) {
    const [a, b] = [one[i], other[j]];
    const isFirst = a !== undefined && (b === undefined || compare(a, b) <= 0);
    const next = isFirst ? one[i++] : other[j++];
    if (next) all.push(next);
    if (all.length % size === 0) await nextTurn();
  }
  return all;
}
