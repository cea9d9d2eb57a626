import { setTimeout as sleep } from 'node:timers/promises';
import { BerthError, messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import type { Journal, JournalEntry } from './journal';

/** Writes an entry to the store; resolves once it is committed, which waits for the disk. */
export type Commit = (entry: JournalEntry) => Promise<void>;

/** A journal that has grown beyond this has a disk that does not keep up: then writes wait for it. */
const MAX_JOURNAL_BYTES = 16 * 1024 * 1024;

const RETRY_MS = 1000;

/**
 * Takes writes into the journal, and from there into the store. What is on its way answers reads. When the store does not
 * take a write that was promised (a full disk), that is tried again until it does; a new one is promised only when
 * those before it are in, so that who asks hears of it.
 */
export class WriteBehind {
  private readonly pending = new Map<string, Map<string, JournalEntry>>();
  private readonly underWay = new Set<Promise<void>>();
  private isFailing = false;
  private isClosed = false;
  private catchingUp: Promise<void> | undefined;

  constructor(
    private readonly journal: Journal,
    private readonly commit: Commit,
    private readonly log: Logger,
  ) {}

  /** Resolves when a kill cannot lose the write any more. `unavailable` once this is closed. */
  async write(entry: JournalEntry): Promise<void> {
    this.assertOpen();
    if (this.isFailing) await this.catchUp();
    if (this.journal.bytes > MAX_JOURNAL_BYTES) await this.settled();
    this.assertOpen();
    try {
      this.journal.append(entry);
    } catch (error) {
      return this.writeThrough(entry, error);
    }
    this.enter(entry);
  }

  /** What a killed process had promised. */
  recover(entries: readonly JournalEntry[]): void {
    for (const entry of entries) this.enter(entry);
  }

  /** What is on its way of a table, by key. */
  of(table: string): ReadonlyMap<string, JournalEntry> {
    return this.pending.get(table) ?? NOTHING;
  }

  /** Resolves when all that was written before the call is committed, or cannot be now. */
  async settled(): Promise<void> {
    await Promise.all(this.underWay);
  }

  /** Nothing is taken any more; resolves when what was is committed, or waits in the journal for the next start. */
  async close(): Promise<void> {
    this.isClosed = true;
    await this.catchingUp?.catch(() => undefined);
    await this.settled();
    this.journal.close();
  }

  private assertOpen(): void {
    if (this.isClosed)
      throw new BerthError('unavailable', 'the daemon is ending', { hint: 'try again once it is back' });
  }

  /** The journal has no room: the store itself must take it, and nothing older may stay that a restart would bring back. */
  private async writeThrough(entry: JournalEntry, why: unknown): Promise<void> {
    await this.settled();
    if (this.journal.bytes > 0) throw why;
    const commit = this.commit(entry);
    this.track(commit.catch(() => undefined)); // who asked hears
    await commit;
  }

  private enter(entry: JournalEntry): void {
    const table = this.pending.get(entry.table) ?? new Map<string, JournalEntry>();
    this.pending.set(entry.table, table);
    table.set(entry.key, entry);
    const work = this.commit(entry).then(
      () => this.leave(entry),
      (error: unknown) => this.failed(error),
    );
    this.track(work);
  }

  private track(work: Promise<void>): void {
    const settled = work.finally(() => {
      this.underWay.delete(settled);
      this.rest();
    });
    this.underWay.add(settled);
  }

  /** A later write of the same record may be on its way: then that one still answers. */
  private leave(entry: JournalEntry): void {
    const entries = this.pending.get(entry.table);
    if (entries?.get(entry.key) === entry) entries.delete(entry.key);
  }

  private failed(error: unknown): void {
    if (this.isFailing) return;
    this.isFailing = true;
    this.log.error(`records wait in the journal, since the store does not take them: ${messageOf(error)}`);
    void this.tryAgain();
  }

  private async tryAgain(): Promise<void> {
    while (this.isFailing && !this.isClosed) {
      await sleep(RETRY_MS, undefined, { ref: false });
      if (this.isFailing && !this.isClosed) await this.catchUp().catch(() => undefined);
    }
  }

  /** Gives the store what it has not taken; throws why it does not take it now. */
  private async catchUp(): Promise<void> {
    this.catchingUp ??= this.giveAgain().finally(() => (this.catchingUp = undefined));
    await this.catchingUp;
  }

  private async giveAgain(): Promise<void> {
    await this.settled();
    // Until none is left: others may have been on their way when the first one failed.
    for (let left = this.entries(); left.length > 0; left = this.entries()) {
      for (const entry of left) {
        await this.commit(entry);
        this.leave(entry);
      }
      await this.settled();
    }
    this.isFailing = false;
    this.log.info('the store takes records again');
    this.rest();
  }

  private entries(): JournalEntry[] {
    return [...this.pending.values()].flatMap(entries => [...entries.values()]);
  }

  private rest(): void {
    if (this.underWay.size === 0 && this.entries().length === 0) this.journal.clear();
  }
}

const NOTHING: ReadonlyMap<string, JournalEntry> = new Map();
