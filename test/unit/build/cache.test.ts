import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BuildCache, type CacheRecord } from '../../../src/build/cache';
import { digestFiles } from '../../../src/build/files';
import { digestOf } from '../../../src/image/digest';
import type { BuiltLayer, ScannedEntry, Workshop } from '../../../src/image/workshop';

const digest = digestOf(Buffer.from('a blob'));
const layer = {
  layer: { key: 'a-layer' },
  descriptor: { digest, sizeBytes: 1, mediaType: 'a/type' },
} as unknown as BuiltLayer;

/** Has the layer as long as `isThere`. */
const workshop = (isThere = true) =>
  ({ find: () => Promise.resolve(isThere ? layer : undefined) }) as unknown as Workshop;

class MemoryTable {
  readonly records = new Map<string, CacheRecord>();
  list = () => [...this.records.values()];
  put = async (key: string, record: CacheRecord) => void this.records.set(key, record);
  remove = async (key: string) => void this.records.delete(key);
}

const inputsOf = fc.dictionary(fc.stringMatching(/^[a-z]{1,6}$/), fc.string(), { minKeys: 1, maxKeys: 6 });

describe('the cache of a build', () => {
  it('has a result for the same inputs in any order, and for no others', async () => {
    await fc.assert(
      fc.asyncProperty(inputsOf, fc.nat(), fc.string(), async (inputs, which, value) => {
        const cache = new BuildCache(new MemoryTable());
        await cache.put('step', inputs, layer);
        const turned = Object.fromEntries(Object.entries(inputs).reverse());
        assert.ok((await cache.find(workshop(), 'another step', turned)).hit);
        const keys = Object.keys(inputs);
        const key = keys[which % keys.length] ?? '';
        if (inputs[key] !== value)
          assert.ok(!(await cache.find(workshop(), 'step', { ...inputs, [key]: value })).hit, `${key} has changed`);
        const { [key]: _gone, ...fewer } = inputs;
        assert.ok(!(await cache.find(workshop(), 'step', fewer)).hit, `${key} is gone`);
        assert.ok(!(await cache.find(workshop(), 'step', { ...inputs, anew: value })).hit, 'one is new');
      }),
    );
  });

  it('says which inputs are others', async () => {
    const cache = new BuildCache(new MemoryTable());
    await cache.put('step', { below: '1', cwd: '/', 'ARG v': '1' }, layer);
    const why = async (inputs: Record<string, string>) => (await cache.find(workshop(), 'step', inputs)).why;
    assert.equal(await why({ below: '2', cwd: '/', 'ARG v': '1' }), 'what it stands on has changed');
    assert.equal(await why({ below: '1', cwd: '/x', 'ARG w': '1' }), 'cwd has changed; ARG v is gone; ARG w is new');
    assert.match(await why({ below: '1', cwd: '/', 'ARG v': '1' }), /^the same inputs as on \d{4}-/);
    assert.equal((await cache.find(workshop(), 'other', { below: '2' })).why, 'this step was never run here');
  });

  it('has no result whose layer is gone, and forgets it', async () => {
    const table = new MemoryTable();
    const cache = new BuildCache(table);
    await cache.put('step', { below: '1' }, layer);
    assert.ok(cache.has('a-layer') && cache.has(digest));
    assert.ok(!(await cache.find(workshop(false), 'step', { below: '1' })).hit);
    assert.deepEqual([table.list(), cache.has('a-layer'), cache.has(digest)], [[], false, false]);
  });

  it('keeps a layer as long as one result has it', async () => {
    const table = new MemoryTable();
    const cache = new BuildCache(table);
    await cache.put('step', { below: '1' }, layer);
    await cache.put('step', { below: '2' }, layer);
    const [first, second] = cache.list();
    assert.ok(first && second);
    await cache.forget(first);
    assert.ok(cache.has('a-layer'));
    assert.ok(new BuildCache(table).has('a-layer'), 'after a restart');
    await cache.forget(second);
    assert.ok(!cache.has('a-layer'));
  });

  it('keeps the layers of other caches, and has their results not', async () => {
    const table = new MemoryTable();
    const cache = new BuildCache(table);
    await cache.keep('a/cache', 'step', { below: '1' }, layer, 1);
    assert.deepEqual(await cache.find(workshop(), 'step', { below: '1' }), {
      hit: false,
      why: 'this step was never run here',
    });
    for (const each of [cache, new BuildCache(table)]) assert.ok(each.has('a-layer') && each.has(digest));
    await cache.put('step', { below: '1' }, undefined);
    await cache.keep('a/cache', 'step', { below: '1' }, layer, 1);
    await cache.keep('another', 'step', { below: '1' }, layer, 1);
    assert.equal(table.list().length, 3);
    const own = await cache.find(workshop(), 'step', { below: '1' });
    assert.ok(own.hit && own.layer === undefined, 'its own result is another');
    for (const record of cache.list()) await cache.forget(record);
    assert.deepEqual([table.list(), cache.has('a-layer'), cache.has(digest)], [[], false, false]);
  });
});

const entryOf: fc.Arbitrary<ScannedEntry> = fc.record({
  type: fc.constantFrom('file' as const, 'directory' as const),
  name: fc.stringMatching(/^[a-z]{1,4}(\/[a-z]{1,4})?$/),
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.nat(5),
  gid: fc.nat(5),
  mtime: fc.stringMatching(/^[0-9]{1,9}\.[0-9]{9}$/),
  sizeBytes: fc.nat(),
  inode: fc.stringMatching(/^[0-9]{1,6}$/),
  links: fc.constant(1),
  device: fc.constant('0:0'),
  xattrs: fc.constantFrom('0000000000000000', '0000000000000001'),
  sha256: fc.constantFrom('sha256:a', 'sha256:b'),
});

const files = (entries: readonly ScannedEntry[]) => [{ path: 'src', pivot: '', entries }];

describe('what COPY copies, for the cache', () => {
  it('is the same whatever its times and inodes are', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(entryOf, { minLength: 1 }), fc.string(), async (entries, text) => {
        const touched = entries.map(entry => ({ ...entry, mtime: text, inode: text }));
        assert.equal(await digestFiles(files(touched), true), await digestFiles(files(entries), true));
      }),
    );
  });

  it('is another when anything else of an entry is', async () => {
    const changes: ((entry: ScannedEntry) => ScannedEntry)[] = [
      entry => ({ ...entry, name: `${entry.name}x` }),
      entry => ({ ...entry, mode: entry.mode ^ 1 }),
      entry => ({ ...entry, uid: entry.uid + 1 }),
      entry => ({ ...entry, gid: entry.gid + 1 }),
      entry => ({ ...entry, xattrs: 'f000000000000000' }),
      entry => ({ ...entry, sha256: 'sha256:c' }),
      entry => ({ ...entry, type: 'link', target: 'x' }),
    ];
    await fc.assert(
      fc.asyncProperty(
        fc.array(entryOf, { minLength: 1 }),
        fc.nat(),
        fc.constantFrom(...changes),
        async (entries, which, change) => {
          const changed = entries.map((entry, i) => (i === which % entries.length ? change(entry) : entry));
          assert.notEqual(await digestFiles(files(changed), true), await digestFiles(files(entries), true));
        },
      ),
    );
  });

  it('does not depend on owners where all become root’s', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(entryOf, { minLength: 1 }), async entries => {
        const others = entries.map(entry => ({ ...entry, uid: entry.uid + 1, gid: entry.gid + 1 }));
        assert.equal(await digestFiles(files(others), false), await digestFiles(files(entries), false));
      }),
    );
  });

  it('is another when the way to a file is, where that is kept', async () => {
    const at = (path: string) => [{ path, pivot: 'pivot', entries: [] }];
    assert.notEqual(await digestFiles(at('pivot/a/f'), false, true), await digestFiles(at('pivot/b/f'), false, true));
    assert.equal(await digestFiles(at('pivot/a/f'), false), await digestFiles(at('pivot/b/f'), false));
  });
});
