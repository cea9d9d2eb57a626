import { readFile } from 'node:fs/promises';
import { messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import { addon } from '../native/addon';

/** Time for what a start still does. */
const FIRST_LOOK_MS = 3000;
const LOOK_MS = 15_000;
/** About what a daemon uses of Node while it is listed and runs containers. */
const KEPT_KB = 32 * 1024;

/**
 * Keeps mapped of Node's program what is used of it. A start goes over nearly all of it once, 45 MB of code and tables that
 * would count as the daemon's memory for good. Returns what ends it.
 */
export function keepProgramSmall(log: Logger): () => void {
  let timer = setTimeout(look, FIRST_LOOK_MS).unref();
  let isOver = false;
  return () => {
    isOver = true;
    clearTimeout(timer);
  };

  function look(): void {
    releaseAbove(KEPT_KB)
      .catch((error: unknown) => log.debug(`the program's pages stay mapped: ${messageOf(error)}`))
      .finally(() => {
        if (!isOver) timer = setTimeout(look, LOOK_MS).unref();
      });
  }
}

async function releaseAbove(kb: number): Promise<void> {
  const mapped = /^RssFile:\s+(\d+) kB$/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1];
  if (Number(mapped ?? 0) > kb) await addon().releaseProgramPages();
}
