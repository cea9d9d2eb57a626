import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '../../../src/base/log';
import { Journal, type JournalEntry } from '../../../src/store/journal';
import { openStore, type Store } from '../../../src/store/store';
import { WriteBehind } from '../../../src/store/write-behind';
import { writeUntilKilled } from './killed-writer';

interface Thing {
  version: 1;
  name: string;
  startedAtNs: bigint;
}

const thing = (name: string): Thing => ({ version: 1, name, startedAtNs: 1_700_000_000_123_456_789n });
const entry = (key: string, value?: string): JournalEntry => ({
  table: 'things',
  key,
  value: value === undefined ? undefined : Buffer.from(value),
});

describe('writes behind a journal', () => {
  let dir: string;
  const journalPath = () => join(dir, 'journal');
  beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'berth-journal-'))));
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  describe('of a store', () => {
    const opened: Store[] = [];
    const reopen = () => {
      const store = openStore(join(dir, 'db'), silentLogger, journalPath());
      opened.push(store);
      return store;
    };
    const closeAll = async () => {
      for (const store of opened.splice(0)) await store.close();
    };
    afterEach(closeAll);

    it('are read at once, and in the store after its end', async () => {
      const things = reopen().quickTable<Thing>('things', 1);
      await Promise.all([things.put('a', thing('a')), things.put('b', thing('b')), things.put('c', thing('c'))]);
      await things.put('a', thing('A'));
      await things.remove('b');
      await things.remove('none');
      assert.deepEqual([things.get('a'), things.get('b'), things.get('none')], [thing('A'), undefined, undefined]);
      assert.deepEqual(things.list(), [thing('A'), thing('c')]);
      await closeAll();
      rmSync(journalPath());
      assert.deepEqual(reopen().quickTable<Thing>('things', 1).list(), [thing('A'), thing('c')]);
    });

    it('leave an empty journal once the store has them', async () => {
      const store = reopen();
      const empty = statSync(journalPath()).size;
      const things = store.quickTable<Thing>('things', 1);
      await things.put('a', thing('a'));
      await store.flushed();
      assert.equal(statSync(journalPath()).size, empty);
    });

    it('come back from the journal alone', async () => {
      const store = reopen();
      const things = store.quickTable<Thing>('things', 1);
      await things.put('a', thing('a'));
      await things.put('gone', thing('gone'));
      await things.remove('gone');
      // As a kill leaves it, before the store has anything.
      const promised = readFileSync(journalPath());
      await store.flushed();
      await store.table<Thing>('things', 1).remove('a');
      await store.table<Thing>('things', 1).put('gone', thing('gone'));
      await closeAll();
      writeFileSync(journalPath(), promised);
      const again = reopen();
      assert.deepEqual(again.quickTable<Thing>('things', 1).list(), [thing('a')]);
      await again.flushed();
      assert.deepEqual(again.table<Thing>('things', 1).list(), [thing('a')]);
    });

    it('are not taken from the journal of another store', async () => {
      await reopen().quickTable<Thing>('things', 1).put('a', thing('a'));
      const promised = join(dir, 'promised');
      copyFileSync(journalPath(), promised);
      await closeAll();
      rmSync(join(dir, 'db'), { recursive: true });
      copyFileSync(promised, journalPath());
      const things = reopen().quickTable<Thing>('things', 1);
      assert.deepEqual(things.list(), []);
      await things.put('b', thing('b'));
      assert.deepEqual(things.list(), [thing('b')]);
    });

    it('are all there after their process was killed', async function () {
      this.timeout(30_000);
      const acknowledged = await writeUntilKilled(join(dir, 'db'), journalPath());
      const records = reopen().quickTable<Thing>('things', 1).list();
      assert.ok(records.length >= acknowledged, `${records.length} records, ${acknowledged} acknowledged`);
      for (const record of records) assert.equal(record.startedAtNs, BigInt(record.name));
    });
  });

  describe('whose file ends in the middle of an entry', () => {
    const withEntries = (entries: readonly JournalEntry[]) => {
      const { journal } = Journal.open(journalPath(), 'id', silentLogger);
      for (const each of entries) journal.append(each);
      journal.close();
      return readFileSync(journalPath());
    };

    it('are those before it, wherever it ends', () => {
      const one = withEntries([entry('ä', 'first')]).length;
      const whole = withEntries([entry('b')]);
      for (let length = 0; length <= whole.length; length++) {
        writeFileSync(journalPath(), whole.subarray(0, length));
        const { journal, entries } = Journal.open(journalPath(), 'id', silentLogger);
        const expected = [
          ...(length >= one ? [entry('ä', 'first')] : []),
          ...(length === whole.length ? [entry('b')] : []),
        ];
        assert.deepEqual(entries, expected, `${length} bytes`);
        journal.append(entry('c', ''));
        journal.close();
        const { journal: again, entries: after } = Journal.open(journalPath(), 'id', silentLogger);
        again.close();
        assert.deepEqual(after, [...expected, entry('c', '')], `${length} bytes, and one more`);
      }
    });

    it('are those before a damaged one', () => {
      const first = withEntries([entry('a', 'first')]).length;
      const whole = withEntries([entry('b', 'second')]);
      whole[whole.length - 1] = 0xff;
      writeFileSync(journalPath(), whole);
      appendFileSync(journalPath(), Buffer.alloc(3, 0xff));
      const { journal, entries } = Journal.open(journalPath(), 'id', silentLogger);
      journal.close();
      assert.deepEqual(entries, [entry('a', 'first')]);
      assert.equal(statSync(journalPath()).size, first);
    });
  });

  describe('for a store that takes nothing for a while', () => {
    let taken: [key: string, value: string | undefined][];
    let isFull: boolean;
    let behind: WriteBehind;
    beforeEach(() => {
      [taken, isFull] = [[], true];
      const { journal } = Journal.open(journalPath(), 'id', silentLogger);
      const commit = async ({ key, value }: JournalEntry) => {
        await Promise.resolve();
        if (isFull) throw new Error('no space left on device');
        taken.push([key, value?.toString()]);
      };
      behind = new WriteBehind(journal, commit, silentLogger);
    });
    afterEach(() => behind.close());

    it('hold what was promised, and promise no more', async () => {
      await behind.write(entry('a', 'first'));
      await behind.settled();
      assert.equal(behind.of('things').get('a')?.value?.toString(), 'first');
      await assert.rejects(behind.write(entry('a', 'second')), /no space left/);
      await assert.rejects(behind.write(entry('b', 'third')), /no space left/);
      assert.deepEqual([...behind.of('things').keys()], ['a']);
      const { journal, entries } = Journal.open(journalPath(), 'id', silentLogger);
      journal.close();
      assert.deepEqual(entries, [entry('a', 'first')]);
    });

    it('give it what was promised before anything new, once it takes it', async () => {
      await behind.write(entry('a', 'first'));
      await behind.settled();
      isFull = false;
      await Promise.all([behind.write(entry('a', 'second')), behind.write(entry('b'))]);
      await behind.settled();
      assert.deepEqual(taken, [
        ['a', 'first'],
        ['a', 'second'],
        ['b', undefined],
      ]);
      assert.equal(behind.of('things').size, 0);
    });

    it('are all tried again, those too that failed beside the first', async function () {
      this.timeout(20_000);
      await Promise.all(['a', 'b', 'c'].map(key => behind.write(entry(key, 'value'))));
      await behind.settled();
      assert.deepEqual([...behind.of('things').keys()], ['a', 'b', 'c']);
      isFull = false;
      await behind.write(entry('d', 'value'));
      await behind.settled();
      assert.deepEqual(
        taken.map(([key]) => key),
        ['a', 'b', 'c', 'd'],
      );
      assert.equal(statSync(journalPath()).size, 'berth journal 1 id\n'.length);
    });

    it('are tried again by themselves', async function () {
      this.timeout(20_000);
      await behind.write(entry('a', 'first'));
      await behind.settled();
      isFull = false;
      while (taken.length === 0) await new Promise(resolve => setTimeout(resolve, 20));
      assert.deepEqual(taken, [['a', 'first']]);
    });
  });

  describe('by a daemon that ends', () => {
    it('are refused once it has closed the journal, whose descriptor is somebody else’s by then', async () => {
      const { journal } = Journal.open(journalPath(), 'id', silentLogger);
      const behind = new WriteBehind(journal, () => Promise.resolve(), silentLogger);
      await behind.write(entry('a', 'first'));
      await behind.close();
      await assert.rejects(behind.write(entry('b', 'second')), {
        kind: 'unavailable',
        message: /the daemon is ending/,
      });
    });
  });

  describe('where the journal has no room', () => {
    let small: string;
    beforeEach(() => {
      small = join(dir, 'small');
      mkdirSync(small);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'none', small]);
    });
    afterEach(() => execFileSync('umount', [small]));

    it('go to the store itself, which has room; the journal stays whole', async () => {
      const path = join(small, 'journal');
      const { journal } = Journal.open(path, 'id', silentLogger);
      const taken: string[] = [];
      const commit = async ({ key }: JournalEntry) => {
        await Promise.resolve();
        taken.push(key);
      };
      const behind = new WriteBehind(journal, commit, silentLogger);
      const large = { ...entry('large'), value: Buffer.alloc(100_000) };
      await behind.write(large);
      await behind.write(entry('small', 'x'));
      await behind.settled();
      await behind.close();
      assert.deepEqual(taken, ['large', 'small']);
      assert.deepEqual(readFileSync(path, 'utf8'), 'berth journal 1 id\n');
    });

    it('are waited for by a daemon that ends', async () => {
      const { journal } = Journal.open(join(small, 'journal'), 'id', silentLogger);
      let begun: () => void = () => undefined;
      let goOn: () => void = () => undefined;
      const hasBegun = new Promise<void>(resolve => (begun = resolve));
      const mayEnd = new Promise<void>(resolve => (goOn = resolve));
      const behind = new WriteBehind(journal, () => (begun(), mayEnd), silentLogger);
      const written = behind.write({ ...entry('large'), value: Buffer.alloc(100_000) });
      await hasBegun;
      let isClosed = false;
      const closed = behind.close().then(() => (isClosed = true));
      await new Promise(resolve => setImmediate(resolve));
      assert.equal(isClosed, false);
      goOn();
      await Promise.all([written, closed]);
    });

    it('are refused while it holds something older that the store has not', async () => {
      const { journal } = Journal.open(join(small, 'journal'), 'id', silentLogger);
      const behind = new WriteBehind(journal, () => Promise.reject(new Error('no space left on device')), silentLogger);
      const first = behind.write(entry('a', 'first'));
      const large = { ...entry('a'), value: Buffer.alloc(100_000) };
      await assert.rejects(behind.write(large), /write to the journal .*: .*; free some space on its file system/);
      await first;
      await behind.close();
      const { journal: again, entries } = Journal.open(join(small, 'journal'), 'id', silentLogger);
      again.close();
      assert.deepEqual(entries, [entry('a', 'first')]);
    });
  });
});
