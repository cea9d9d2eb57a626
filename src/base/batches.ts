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
