import { stat } from 'node:fs/promises';
import type { Container, Containers } from './containers';

/** So many system calls at a time leave room on the pool for others. */
const AT_ONCE = 8;

/**
 * How much the logs of containers have grown since this was made, from what a
 * look finds that the one before did not. What a log grew by between the last look
 * and its rotation is not known.
 */
export class LogGrowth {
  private readonly seen = new Map<string, { inode: number; bytes: number }>();
  /** Their logs are older than this: the first look at one counts nothing. */
  private readonly old: Set<string>;
  private bytes = 0;

  constructor(private readonly containers: Containers) {
    this.old = new Set(containers.list().map(({ record }) => record.id));
  }

  /** Looks at all logs; bytes since this was made. */
  async total(): Promise<number> {
    const all = this.containers.list();
    const present = new Set<string>(all.map(({ record }) => record.id));
    for (const id of this.seen.keys()) if (!present.has(id)) this.seen.delete(id);
    for (let i = 0; i < all.length; i += AT_ONCE) {
      await Promise.all(all.slice(i, i + AT_ONCE).map(container => this.look(container)));
    }
    return this.bytes;
  }

  /** A log that is not there has grown by nothing. */
  async look({ record: { id, logPath } }: Container): Promise<void> {
    if (logPath === '') return;
    const found = await stat(logPath).catch(() => undefined);
    if (!found?.isFile()) return;
    const before = this.seen.get(id);
    this.seen.set(id, { inode: found.ino, bytes: found.size });
    if (!before && this.old.delete(id)) return;
    const from = before?.inode === found.ino && before.bytes <= found.size ? before.bytes : 0;
    this.bytes += found.size - from;
  }
}
