import { mkdirSync } from 'node:fs';
import { open as openFileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { asBinary, open, type Database, type RootDatabase } from 'lmdb';
import { BerthError, messageOf } from '../base/errors';
import { randomHexId } from '../base/ids';
import type { Logger } from '../base/log';
import { Journal } from './journal';
import { assertSound } from './soundness';
import { WriteBehind, type Commit } from './write-behind';

/** What every record carries: the version of its schema. */
export interface Versioned {
  readonly version: number;
}

/** One kind of record, by key. Reads come from the memory map and are as current as the last resolved write. */
export interface Table<Record extends Versioned> {
  get(key: string): Record | undefined;
  /** All of them, which others may be shown, too: nobody changes what they hold. */
  list(): Record[];
  /** Resolves when a killed daemon keeps the write; a power cut may not (see `flushed`). */
  put(key: string, record: Record): Promise<void>;
  /** The same of a removal; removing what is not there is no error. */
  remove(key: string): Promise<void>;
}

/**
 * All records of the daemon in one transactional file. Values are msgpack:
 * bigint, Buffer and nested objects come back as what they were.
 */
export interface Store {
  /**
   * The table `name`, whose records have the schema `version`. Of records of another version `upgrade` makes one of
   * this, each time they are read until they are written anew; those that it does not know are refused.
   */
  table<Record extends Versioned>(
    name: string,
    version: Record['version'],
    upgrade?: (old: Versioned) => Record | undefined,
  ): Table<Record>;
  /**
   * As `table`, for records of which nothing outlives the machine: what is written is in the journal, and so safe from a kill,
   * when the promise resolves, and on the disk soon after. Waiting for a busy disk at each step of a start would take
   * longer than the start. Not for use in a transaction.
   */
  quickTable<Record extends Versioned>(name: string, version: Record['version']): Table<Record>;
  /**
   * Runs `work` alone; its writes, to any tables, become visible together or, if it throws, not at all.
   * `work` does not await: what it calls on tables takes effect in order, and their promises need no catching.
   */
  transaction<T>(work: () => T): Promise<T>;
  /** Resolves when everything that was committed before the call is on disk. */
  flushed(): Promise<void>;
  close(): Promise<void>;
}

const fileName = 'records.mdb';
const maxTables = 32;

/**
 * Opens the store in `dir`, made with mode 0700 if it is missing; throws `data_loss` when its file cannot be trusted.
 * `journalPath` is best on a tmpfs; without one, quick tables are as others.
 */
export function openStore(dir: string, log: Logger, journalPath?: string): Store {
  const path = join(dir, fileName);
  const root = openFile(dir, path);
  const commits = new Commits(root, path);
  const writes = new Writes();
  const behind = journalPath === undefined ? undefined : openJournal(root, commits, path, journalPath, log);
  log.debug('store opened', { path });
  return {
    table: <Record extends Versioned>(
      name: string,
      version: Record['version'],
      upgrade: (old: Versioned) => Record | undefined = () => undefined,
    ) => new LmdbTable<Record>(openTable(root, path, name), commits, writes, path, name, version, upgrade),
    quickTable: <Record extends Versioned>(name: string, version: Record['version']) => {
      const database = openTable(root, path, name);
      const kept = new LmdbTable<Record>(database, commits, writes, path, name, version, () => undefined);
      return behind ? new QuickTable<Record>(kept, database, behind, name) : kept;
    },
    transaction: async work => {
      let result: { value: ReturnType<typeof work> } | undefined;
      await writes.duringTransaction(() =>
        commits.done(
          root.childTransaction(() => {
            result = { value: writes.within(work) };
          }),
        ),
      );
      if (!result) throw new BerthError('internal', `the store ${path} did not run a transaction`);
      return result.value;
    },
    flushed: async () => {
      await behind?.settled();
      await commits.flushed();
    },
    close: async () => {
      await behind?.close();
      await root.close();
    },
  };
}

/** What a killed daemon had promised is on its way into the store again when this returns. */
function openJournal(root: RootDatabase, commits: Commits, path: string, journalPath: string, log: Logger) {
  const tables = new Map<string, Database<unknown, string>>();
  const tableOf = (name: string) => {
    const table = tables.get(name) ?? openTable(root, path, name);
    tables.set(name, table);
    return table;
  };
  const commit: Commit = async ({ table, key, value }) => {
    const database = tableOf(table);
    await commits.done<unknown>(value ? database.put(key, asBinary(value)) : database.remove(key));
  };
  const { journal, entries } = Journal.open(journalPath, idOf(root, path), log);
  const behind = new WriteBehind(journal, commit, log);
  behind.recover(entries);
  return behind;
}

/** The store's own name, by which a journal knows it. */
function idOf(root: RootDatabase, path: string): string {
  const about = openTable(root, path, 'store');
  const known = about.get('id');
  if (typeof known === 'string') return known;
  const id = randomHexId();
  about.putSync('id', id);
  return id;
}

function openFile(dir: string, path: string): RootDatabase {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    assertSound(path);
    // Batches of an event turn have a promise that nobody gets, and whose rejection on a full disk would end the daemon.
    return open({ path, noSubdir: true, maxDbs: maxTables, eventTurnBatching: false });
  } catch (error) {
    throw unreadable(path, error);
  }
}

function openTable(root: RootDatabase, path: string, name: string): Database<unknown, string> {
  try {
    return root.openDB<unknown, string>({ name });
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, cause: unknown): BerthError {
  return new BerthError('data_loss', `open the store ${path}: ${messageOf(cause)}`, {
    cause,
    hint: 'restore the file from a backup, or move it away: berth then starts with no images and no containers',
  });
}

/** Waits for commits, and says why one failed: a full disk is an ordinary hour of a node. */
class Commits {
  /** LMDB's own flush then waits for a commit that succeeds. */
  private lastFailed = false;
  private readonly waiting = new Set<() => void>();

  constructor(
    private readonly root: RootDatabase,
    private readonly path: string,
  ) {}

  async done<T>(write: Promise<T>): Promise<T> {
    try {
      const value = await write;
      this.lastFailed = false;
      return value;
    } catch (error) {
      const reason = await commitError(error);
      if (reason === undefined) throw error;
      this.lastFailed = true;
      for (const wake of this.waiting) wake();
      throw this.failure(reason);
    }
  }

  async flushed(): Promise<void> {
    let wake: () => void = () => undefined;
    const failed = new Promise<void>(resolve => (wake = resolve));
    this.waiting.add(wake);
    try {
      if (!this.lastFailed) await Promise.race([this.root.flushed, failed]);
    } finally {
      this.waiting.delete(wake);
    }
    if (this.lastFailed) await this.sync();
  }

  private async sync(): Promise<void> {
    const file = await openFileHandle(this.path, 'r+');
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  }

  private failure(reason: unknown): BerthError {
    const text = messageOf(reason);
    const isFull = /no space left|MDB_MAP_FULL/i.test(text);
    return new BerthError(
      isFull ? 'resource_exhausted' : 'internal',
      `write to the store ${this.path}: ${isFull ? 'no space left on device' : text}`,
      { cause: reason, ...(isFull ? { hint: 'free some space and try again' } : {}) },
    );
  }
}

/** LMDB rejects with an error that holds a promise, which rejects with the reason; undefined for any other error. */
async function commitError(error: unknown): Promise<unknown> {
  if (!(error instanceof Error) || !('commitError' in error)) return undefined;
  try {
    await error.commitError;
    return error;
  } catch (reason) {
    return reason;
  }
}

/** Counts, for each table, what may change what is read: when it is asked for, and when it is done or has failed. */
class Writes {
  private readonly counts = new Map<string, number>();
  /** Of transactions, which may write to any. */
  private ofAll = 0;
  private isWithin = false;

  /** The same number twice: nothing was written in between. Undefined within a transaction, which sees what is in no store yet. */
  soFar(table: string): number | undefined {
    return this.isWithin ? undefined : this.ofAll + (this.counts.get(table) ?? 0);
  }

  async during<T>(table: string, write: () => Promise<T>): Promise<T> {
    const count = () => this.counts.set(table, (this.counts.get(table) ?? 0) + 1);
    count();
    try {
      return await write();
    } finally {
      count();
    }
  }

  async duringTransaction<T>(commit: () => Promise<T>): Promise<T> {
    this.ofAll++;
    try {
      return await commit();
    } finally {
      this.ofAll++;
    }
  }

  within<T>(work: () => T): T {
    this.isWithin = true;
    try {
      return work();
    } finally {
      this.isWithin = false;
    }
  }
}

class LmdbTable<Record extends Versioned> implements Table<Record> {
  /**
   * To decode all images of a node for each question after one takes longer than all the rest of the answer. Some 15 kB a
   * record; held weakly it would be gone at once, by the garbage of its own decoding.
   */
  private listed: { readonly writes: number; readonly records: readonly Record[] } | undefined;

  constructor(
    private readonly database: Database<unknown, string>,
    private readonly commits: Commits,
    private readonly writes: Writes,
    private readonly path: string,
    private readonly name: string,
    private readonly version: number,
    private readonly upgrade: (old: Versioned) => Record | undefined,
  ) {}

  get(key: string): Record | undefined {
    const value = this.reading(`record ${key}`, () => this.database.get(key));
    return value === undefined ? undefined : this.checked(key, value);
  }

  list(): Record[] {
    const writes = this.writes.soFar(this.name);
    const known = this.listed?.writes === writes ? this.listed?.records : undefined;
    const records = known ?? [...this.entries().values()];
    this.listed = writes === undefined ? undefined : { writes, records };
    return [...records];
  }

  entries(): Map<string, Record> {
    const entries = this.reading('records', () => [...this.database.getRange()]);
    return new Map(entries.map(({ key, value }) => [key, this.checked(key, value)]));
  }

  async put(key: string, record: Record): Promise<void> {
    if (!(await this.writes.during(this.name, () => this.commits.done(this.database.put(key, record)))))
      throw this.damaged(`record ${key}`, 'the write was not done');
  }

  async remove(key: string): Promise<void> {
    await this.writes.during(this.name, () => this.commits.done(this.database.remove(key)));
  }

  /** A value as it is stored. */
  decoded(key: string, value: Buffer): Record {
    return this.checked(
      key,
      this.reading(`record ${key}`, () => encoderOf(this.database).decode(value)),
    );
  }

  private reading<T>(what: string, read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw this.damaged(what, messageOf(error), error);
    }
  }

  private checked(key: string, value: unknown): Record {
    const version = typeof value === 'object' && value !== null && 'version' in value ? value.version : undefined;
    if (version === this.version) return value as Record;
    if (typeof version !== 'number') throw this.damaged(`record ${key}`, 'it is not a record');
    const upgraded = this.upgrade(value as Versioned);
    if (upgraded) return upgraded;
    throw new BerthError(
      'failed_precondition',
      `read record ${key} of ${this.name} in the store ${this.path}: it has version ${version}, and this berth knows version ${this.version}`,
      { hint: 'run the berth that wrote it' },
    );
  }

  private damaged(what: string, why: string, cause?: unknown): BerthError {
    return new BerthError('data_loss', `read ${what} of ${this.name} in the store ${this.path}: ${why}`, {
      cause,
      hint: 'restore the file from a backup, or move it away: berth then starts with no images and no containers',
    });
  }
}

/** A table whose writes are promised by the journal; what is on its way is as if it were there. */
class QuickTable<Record extends Versioned> implements Table<Record> {
  constructor(
    private readonly kept: LmdbTable<Record>,
    private readonly database: Database<unknown, string>,
    private readonly behind: WriteBehind,
    private readonly name: string,
  ) {}

  get(key: string): Record | undefined {
    const pending = this.behind.of(this.name);
    if (!pending.has(key)) return this.kept.get(key);
    const value = pending.get(key)?.value;
    return value && this.kept.decoded(key, value);
  }

  list(): Record[] {
    const entries = this.kept.entries();
    for (const [key, { value }] of this.behind.of(this.name)) {
      if (value) entries.set(key, this.kept.decoded(key, value));
      else entries.delete(key);
    }
    return [...entries.values()];
  }

  async put(key: string, record: Record): Promise<void> {
    await this.behind.write({ table: this.name, key, value: encoderOf(this.database).encode(record) });
  }

  async remove(key: string): Promise<void> {
    await this.behind.write({ table: this.name, key, value: undefined });
  }
}

interface Encoder {
  encode(value: unknown): Buffer;
  decode(bytes: Buffer): unknown;
}

/** lmdb's own, so that a value is the same bytes whoever encodes it. */
function encoderOf(database: Database<unknown, string>): Encoder {
  return (database as unknown as { encoder: Encoder }).encoder;
}
