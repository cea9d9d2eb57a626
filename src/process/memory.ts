import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import { addon } from '../native/addon';

/** Time for what a start still does. */
const FIRST_LOOK_MS = 3000;
const LOOK_MS = 15_000;
const GROWN_BYTES = 10 * 1024 * 1024;

/** Gives memory back to the kernel after the start, and whenever the daemon has grown since. Returns what ends it. */
export function keepMemorySmall(
  log: Logger,
  {
    resident = () => process.memoryUsage.rss(),
    release = () => addon().releasePages(),
    rest = (ms: number, signal: AbortSignal) => sleep(ms, undefined, { ref: false, signal }),
  } = {},
): () => void {
  const end = new AbortController();
  const giveBack = () =>
    release().catch((error: unknown) => log.debug(`memory is not given back, until later: ${messageOf(error)}`));
  const keep = async () => {
    await rest(FIRST_LOOK_MS, end.signal);
    await giveBack();
    let smallest = resident();
    for (;;) {
      await rest(LOOK_MS, end.signal);
      const now = resident();
      const hasGrown = now >= smallest + GROWN_BYTES;
      if (hasGrown) await giveBack();
      smallest = hasGrown ? resident() : Math.min(smallest, now);
    }
  };
  keep().catch((error: unknown) => {
    if (!end.signal.aborted) log.debug(`memory is not given back: ${messageOf(error)}`);
  });
  return () => end.abort();
}
