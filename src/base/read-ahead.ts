import { setImmediate as nextTurn } from 'node:timers/promises';

/** How many parts are under way while one is used: whoever reads has the next one, then, when one is done. */
const AHEAD = 2;

/**
 * Reads things some at a time, in their order. The next are under way while what was read is used, and whoever else waits
 * for the event loop gets a turn in between.
 */
export async function* readAhead<Thing, Read>(
  things: readonly Thing[],
  atATime: number,
  read: (some: readonly Thing[]) => Promise<Read>,
): AsyncGenerator<Read, void, undefined> {
  const underWay: Promise<Read>[] = [];
  let next = 0;
  const begin = () => {
    if (next >= things.length) return;
    const reading = read(things.slice(next, (next += atATime)));
    // It may fail while nobody waits for it yet, or any more.
    reading.catch(() => undefined);
    underWay.push(reading);
  };
  for (let i = 0; i < AHEAD; i++) begin();
  for (let reading = underWay.shift(); reading; reading = underWay.shift()) {
    const read = await reading;
    begin();
    yield read;
    if (underWay.length > 0) await nextTurn();
  }
}
