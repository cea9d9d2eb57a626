import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BerthError } from '../../../src/base/errors';
import { silentLogger } from '../../../src/base/log';
import { openStore, type Store } from '../../../src/store/store';
import { writeUntilKilled } from './killed-writer';

interface Thing {
  version: 1;
  name: string;
  startedAtNs: bigint;
  env?: Buffer[];
}

const thing = (name: string): Thing => ({ version: 1, name, startedAtNs: 1_700_000_000_123_456_789n });

describe('store', () => {
  let dir: string;
  const opened: Store[] = [];
  const reopen = () => {
    const store = openStore(dir, silentLogger);
    opened.push(store);
    return store;
  };
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'berth-store-'));
  });
  afterEach(async () => {
    for (const store of opened.splice(0)) await store.close();
    rmSync(dir, { recursive: true, force: true });
  });

  it('gives back bigint, Buffer and small bigint as what they were', async () => {
    const things = reopen().table<Thing>('things', 1);
    const record = { ...thing('a'), startedAtNs: 5n, env: [Buffer.from([0xff, 0x00, 0x80])] };
    await things.put('a', record);
    assert.deepEqual(things.get('a'), record);
    assert.equal(things.get('b'), undefined);
  });

  it('lists, replaces and removes', async () => {
    const things = reopen().table<Thing>('things', 1);
    await Promise.all([things.put('a', thing('a')), things.put('b', thing('b'))]);
    await things.put('a', thing('A'));
    assert.deepEqual(
      things.list().map(record => record.name),
      ['A', 'b'],
    );
    await things.remove('a');
    await things.remove('a');
    assert.deepEqual(things.list(), [thing('b')]);
  });

  it('decodes its records once between two writes, whatever comes of them, and shows a transaction its own', async () => {
    const store = reopen();
    const things = store.table<Thing>('things', 1);
    await things.put('a', thing('a'));
    const [first, second] = [things.list(), things.list()];
    assert.equal(first[0], second[0]);
    first.pop();
    assert.deepEqual(things.list(), [thing('a')]);
    const put = things.put('b', thing('b'));
    things.list();
    await put;
    assert.deepEqual(things.list(), [thing('a'), thing('b')]);
    const removed = things.remove('a');
    things.list();
    await removed;
    assert.deepEqual(things.list(), [thing('b')]);
    for (const fails of [true, false]) {
      const moving = store.transaction(() => {
        void things.put('c', thing('c'));
        assert.deepEqual(things.list(), [thing('b'), thing('c')]);
        if (fails) throw new BerthError('aborted', 'changed my mind');
      });
      things.list();
      await moving.catch(() => undefined);
      assert.deepEqual(things.list(), fails ? [thing('b')] : [thing('b'), thing('c')]);
    }
  });

  it('keeps tables apart and its directory to itself', async () => {
    const store = reopen();
    await store.table<Thing>('things', 1).put('a', thing('a'));
    assert.deepEqual(store.table<Thing>('others', 1).list(), []);
    assert.equal(statSync(dir).mode & 0o077, 0);
  });

  it('writes a transaction whole or not at all', async () => {
    const store = reopen();
    const things = store.table<Thing>('things', 1);
    const others = store.table<Thing>('others', 1);
    await assert.rejects(
      store.transaction(() => {
        void things.put('a', thing('a'));
        void others.put('b', thing('b'));
        throw new BerthError('aborted', 'changed my mind');
      }),
      /changed my mind/,
    );
    assert.deepEqual([things.get('a'), others.get('b')], [undefined, undefined]);
    const result = await store.transaction(() => {
      void things.put('a', thing('a'));
      void others.put('b', thing('b'));
      return 7;
    });
    assert.equal(result, 7);
    assert.deepEqual([things.get('a'), others.get('b')], [thing('a'), thing('b')]);
  });

  it('has what was written, after it was closed and opened', async () => {
    const store = reopen();
    await store.table<Thing>('things', 1).put('a', thing('a'));
    await store.flushed();
    await store.close();
    opened.length = 0;
    assert.deepEqual(reopen().table<Thing>('things', 1).get('a'), thing('a'));
  });

  it('has every acknowledged record after its process was killed while writing', async function () {
    this.timeout(20_000);
    const acknowledged = await writeUntilKilled(dir);
    const records = reopen().table<Thing>('things', 1).list();
    assert.ok(records.length >= acknowledged, `${records.length} records, ${acknowledged} acknowledged`);
    for (const record of records) assert.equal(record.startedAtNs, BigInt(record.name));
  });

  it('refuses a record of another version by a sentence', async () => {
    const store = reopen();
    await store.table<Versioned2>('things', 2).put('a', { version: 2 });
    assert.throws(() => store.table<Thing>('things', 1).get('a'), {
      kind: 'failed_precondition',
      message: /read record a of things in the store .*: it has version 2, and this berth knows version 1; run/,
    });
  });

  describe('damage', () => {
    const path = () => join(dir, 'records.mdb');
    beforeEach(async () => {
      const store = reopen();
      const things = store.table<Thing>('things', 1);
      for (let i = 0; i < 300; i++) void things.put(`k${i}`, { ...thing('x'.repeat(300)) });
      await store.flushed();
      await store.close();
      opened.length = 0;
    });
    const refused = (why: RegExp) =>
      assert.throws(
        () => reopen().table<Thing>('things', 1).list(),
        (error: unknown) => {
          assert.ok(error instanceof BerthError);
          assert.equal(error.kind, 'data_loss');
          assert.match(error.message, why);
          assert.match(error.message, /restore the file from a backup, or move it away/);
          return true;
        },
      );

    it('of a file that was cut off is one sentence', () => {
      truncateSync(path(), 20_000);
      refused(/open the store .*records\.mdb: it is cut off: 20000 bytes of at least \d+/);
    });

    it('of a file of something else is one sentence', () => {
      writeFileSync(path(), 'hello world'.repeat(1000));
      refused(/it is not a berth store/);
    });

    it('of the newest meta page is one sentence', () => {
      const bytes = readFileSync(path());
      bytes.fill(0xaa, 16, 4096 + 100);
      writeFileSync(path(), bytes);
      refused(/it is not a berth store, or its first pages are damaged/);
    });

    it('of the data pages is one sentence', () => {
      const bytes = readFileSync(path());
      bytes.fill(0, 8192);
      writeFileSync(path(), bytes);
      refused(/MDB_CORRUPTED/);
    });

    it('of its place is one sentence: a directory that is a file', () => {
      assert.throws(() => openStore(join(path(), 'deeper'), silentLogger), { kind: 'data_loss', message: /ENOTDIR/ });
    });
  });
});

interface Versioned2 {
  version: 2;
}
