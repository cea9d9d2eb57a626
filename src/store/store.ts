import { mkdirSync } from 'node:fs';
import { open as openFileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { open, type Database, type RootDatabase } from 'lmdb';
import { BerthError, messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import { assertSound } from './soundness';

/** What every record carries: the version of its schema. */
export interface Versioned {
  readonly version: number;
}

/** One kind of record, by key. Reads come from the memory map and are as current as the last resolved write. */
export interface Table<Record extends Versioned> {
  get(key: string): Record | undefined;
  list(): Record[];
  /** Resolves when the write has been committed: a killed daemon keeps it, a power cut may not (see `flushed`). */
  put(key: string, record: Record): Promise<void>;
  /** Resolves when the removal has been committed; removing what is not there is no error. */
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

/** Opens the store in `dir`, made with mode 0700 if it is missing; throws `data_loss` when its file cannot be trusted. */
export function openStore(dir: string, log: Logger): Store {
  const path = join(dir, fileName);
  const root = openFile(dir, path);
  const commits = new Commits(root, path);
  log.debug('store opened', { path });
  return {
    table: <Record extends Versioned>(
      name: string,
      version: Record['version'],
      upgrade: (old: Versioned) => Record | undefined = () => undefined,
    ) => new LmdbTable<Record>(openTable(root, path, name), commits, path, name, version, upgrade),
    transaction: async work => {
      let result: { value: ReturnType<typeof work> } | undefined;
      await commits.done(
        root.childTransaction(() => {
          result = { value: work() };
        }),
      );
      if (!result) throw new BerthError('internal', `the store ${path} did not run a transaction`);
      return result.value;
    },
    flushed: () => commits.flushed(),
    close: () => root.close(),
  };
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

class LmdbTable<Record extends Versioned> implements Table<Record> {
  constructor(
    private readonly database: Database<unknown, string>,
    private readonly commits: Commits,
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
    return this.reading('records', () => [...this.database.getRange()]).map(({ key, value }) =>
      this.checked(key, value),
    );
  }

  async put(key: string, record: Record): Promise<void> {
    if (!(await this.commits.done(this.database.put(key, record))))
      throw this.damaged(`record ${key}`, 'the write was not done');
  }

  async remove(key: string): Promise<void> {
    await this.commits.done(this.database.remove(key));
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
