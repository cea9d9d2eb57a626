import { setImmediate as nextTurn } from 'node:timers/promises';

/**
 * Reads things some at a time, in their order. The next are under way while what was read is used, and whoever else waits
 * for the event loop gets a turn in between.
 */
export async function* readAhead<Thing, Read>(
  things: readonly Thing[],
  atATime: number,
  read: (some: readonly Thing[]) => Promise<Read>,
): AsyncGenerator<Read, void, undefined> {
  const begin = (from: number) => {
    const reading = read(things.slice(from, from + atATime));
    // It may fail while nobody waits for it yet, or any more.
    reading.catch(() => undefined);
    return reading;
  };
  if (things.length === 0) return;
  let reading = begin(0);
  for (let next = atATime; next < things.length; next += atATime) {
    const read = await reading;
    reading = begin(next);
    yield read;
    await nextTurn();
  }
  yield await reading;
}
