import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../base/errors';
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
  private readonly pending = new Map<string, Map<string, Buffer | undefined>>();
  private readonly underWay = new Set<Promise<void>>();
  private isFailing = false;
  private isClosed = false;
  private catchingUp: Promise<void> | undefined;

  constructor(
    private readonly journal: Journal,
    private readonly commit: Commit,
    private readonly log: Logger,
  ) {}

  /** Resolves when a kill cannot lose the write any more. */
  async write(entry: JournalEntry): Promise<void> {
    if (this.isFailing) await this.catchUp();
    if (this.journal.bytes > MAX_JOURNAL_BYTES) await this.settled();
    this.journal.append(entry);
    this.enter(entry);
  }

  /** What a killed process had promised. */
  recover(entries: readonly JournalEntry[]): void {
    for (const entry of entries) this.enter(entry);
  }

  /** What is on its way of a table, by key. */
  of(table: string): ReadonlyMap<string, Buffer | undefined> {
    return this.pending.get(table) ?? NOTHING;
  }

  /** Resolves when all that was written is committed, or cannot be now. */
  async settled(): Promise<void> {
    while (this.underWay.size > 0) await Promise.all(this.underWay);
  }

  async close(): Promise<void> {
    this.isClosed = true;
    await this.settled();
    this.journal.close();
  }

  private enter(entry: JournalEntry): void {
    const table = this.pending.get(entry.table) ?? new Map<string, Buffer | undefined>();
    this.pending.set(entry.table, table);
    table.set(entry.key, entry.value);
    const work = this.commit(entry).then(
      () => this.leave(entry),
      (error: unknown) => this.failed(error),
    );
    const settled = work.finally(() => {
      this.underWay.delete(settled);
      this.rest();
    });
    this.underWay.add(settled);
  }

  /** A later write of the same record may be on its way: then that one still answers. */
  private leave({ table, key, value }: JournalEntry): void {
    const entries = this.pending.get(table);
    if (entries?.has(key) && entries.get(key) === value) entries.delete(key);
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
    for (const [table, entries] of this.pending) {
      for (const [key, value] of entries) {
        await this.commit({ table, key, value });
        this.leave({ table, key, value });
      }
    }
    this.isFailing = false;
    this.log.info('the store takes records again');
    this.rest();
  }

  private rest(): void {
    const isEmpty = this.underWay.size === 0 && [...this.pending.values()].every(({ size }) => size === 0);
    if (isEmpty) this.journal.clear();
  }
}

const NOTHING: ReadonlyMap<string, Buffer | undefined> = new Map();
