import { mkdirSync } from 'node:fs';
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
  log.debug('store opened', { path });
  return {
    table: <Record extends Versioned>(
      name: string,
      version: Record['version'],
      upgrade: (old: Versioned) => Record | undefined = () => undefined,
    ) => new LmdbTable<Record>(openTable(root, path, name), path, name, version, upgrade),
    transaction: async work => {
      let result: { value: ReturnType<typeof work> } | undefined;
      await root.childTransaction(() => {
        result = { value: work() };
      });
      if (!result) throw new BerthError('internal', `the store ${path} did not run a transaction`);
      return result.value;
    },
    flushed: async () => {
      await root.flushed;
    },
    close: () => root.close(),
  };
}

function openFile(dir: string, path: string): RootDatabase {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    assertSound(path);
    return open({ path, noSubdir: true, maxDbs: maxTables });
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

class LmdbTable<Record extends Versioned> implements Table<Record> {
  constructor(
    private readonly database: Database<unknown, string>,
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
    if (!(await this.database.put(key, record))) throw this.damaged(`record ${key}`, 'the write was not done');
  }

  async remove(key: string): Promise<void> {
    await this.database.remove(key);
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
