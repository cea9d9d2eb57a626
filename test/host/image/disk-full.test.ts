import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import { openImages, type Images, type OnProgress } from '../../../src/image/images';
import { openStore, type Store } from '../../../src/store/store';
import { startGatedRegistry } from '../../support/gated-registry';
import { buildImage, descriptor, type BuiltImage } from '../../support/image-builder';

const sized = (bytes: number) => buildImage({ layers: [[{ path: 'bulk', data: randomBytes(bytes) }]] });

describe('a disk that is full', function () {
  this.timeout(60_000);
  let dir: string;
  let disk: string;
  let store: Store;
  let images: Images;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'berth-disk-'));
    disk = join(dir, 'disk');
    mkdirSync(disk);
    const file = join(dir, 'disk.img');
    writeFileSync(file, '');
    truncateSync(file, 128 * 1024 * 1024);
    execFileSync('mkfs.ext4', ['-q', '-m', '0', file]);
    execFileSync('mount', ['-o', 'loop', file, disk]);
    store = openStore(join(disk, 'store'), silentLogger);
    images = await openImages({ root: join(disk, 'images'), store, log: silentLogger, layersInUse: () => [] });
  });
  afterEach(async () => {
    await images.close();
    await store.close();
    execFileSync('umount', [disk]);
    rmSync(dir, { recursive: true, force: true });
  });

  const bring = (image: BuiltImage, name: string, onProgress?: OnProgress) => {
    const layout = mkdtempSync(join(dir, 'layout-'));
    mkdirSync(join(layout, 'blobs/sha256'), { recursive: true });
    writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    writeFileSync(
      join(layout, 'index.json'),
      JSON.stringify({ schemaVersion: 2, manifests: [descriptor(image.manifest)] }),
    );
    for (const { digest, bytes } of [image.manifest, image.config, ...image.layers])
      writeFileSync(join(layout, 'blobs', digest.replace(':', '/')), bytes);
    return images.importLayout(Context.of(silentLogger, {}), layout, `test.example/${name}:1`, onProgress);
  };
  const layerDirs = () => readdirSync(join(disk, 'images/layers')).filter(name => name !== 'empty');
  const fill = () => {
    const chunk = Buffer.alloc(1024 * 1024);
    for (let size = chunk.length; size >= 512; size >>= 1)
      try {
        for (;;) appendFileSync(join(disk, 'filler'), chunk.subarray(0, size));
      } catch {
        // smaller pieces may still fit
      }
  };

  it('is said by a sentence, and no half image stays', async () => {
    await assert.rejects(bring(sized(150 * 1024 * 1024), 'huge'), {
      kind: 'resource_exhausted',
      message: /no space left on device; free some space/,
    });
    assert.deepEqual(images.list(), []);
    while (layerDirs().some(name => name.startsWith('trash-'))) await sleep(5);
    assert.deepEqual(layerDirs(), []);
    assert.deepEqual(readdirSync(join(disk, 'images/content/blobs/sha256')), []);
    assert.ok(await bring(sized(1024 * 1024), 'small'));
  });

  it('lets images be removed to the last byte, with what is kept for that', async () => {
    for (const name of ['a', 'b', 'c']) await bring(sized(2 * 1024 * 1024), name);
    assert.equal(existsSync(join(disk, 'images/reserve')), true);
    fill();
    await assert.rejects(bring(sized(1024 * 1024), 'more'), { kind: 'resource_exhausted' });
    for (const name of ['a', 'b', 'c']) await images.remove(`test.example/${name}:1`);
    assert.deepEqual(images.list(), []);
    await images.close();
    assert.deepEqual(layerDirs(), []);
    images = await openImages({ root: join(disk, 'images'), store, log: silentLogger, layersInUse: () => [] });
    assert.ok(await bring(sized(1024 * 1024), 'again'));
  });

  it('is said by the store, which goes on when there is space again', async () => {
    const table = store.table<{ version: 1; text: string }>('anything', 1);
    const record = { version: 1, text: 'x'.repeat(50_000) } as const;
    await table.put('before', record);
    fill();
    const full = {
      kind: 'resource_exhausted',
      message: /write to the store .*: no space left on device; free some space/,
    };
    await assert.rejects(table.put('a', record), full);
    await store.flushed();
    await assert.rejects(
      store.transaction(() => void table.put('b', record)),
      full,
    );
    await store.flushed();
    rmSync(join(disk, 'filler'));
    await table.put('c', record);
    await store.flushed();
    assert.deepEqual(
      ['before', 'a', 'b', 'c'].map(key => table.get(key)?.text.length),
      [50_000, undefined, undefined, 50_000],
    );
  });

  /** Half of its layer has come, as a file of its own and as files that are unpacked, and no more comes until it is opened. */
  const held = async (image: BuiltImage, whenHalf: () => void) => {
    await using registry = await startGatedRegistry(image);
    const partials = join(disk, 'images/content/partial');
    const pulling = images.pull(Context.of(silentLogger, { timeoutMs: 40_000 }), `${registry.host}/app:1`);
    pulling.catch(() => undefined);
    while (!readdirSync(partials).some(name => statSync(join(partials, name)).size >= 2 ** 20)) await sleep(5);
    whenHalf();
    registry.open();
    return await pulling;
  };
  const large = { labels: 'l'.repeat(300_000) };
  const stages: readonly [name: string, pull: () => Promise<unknown>][] = [
    ['before the documents', async () => (fill(), await bring(sized(1024 * 1024), 'other'))],
    ['while a blob comes', () => held(sized(6 * 1024 * 1024), fill)],
    [
      'while a layer is unpacked',
      () => bring(buildImage({ layers: [[{ path: 'zeros', data: Buffer.alloc(150 * 1024 * 1024) }]] }), 'other'),
    ],
    [
      'before the record',
      () =>
        bring(buildImage({ layers: [[{ path: 'a', data: 'x' }]], config: { Labels: large } }), 'other', ({ phase }) => {
          if (phase === 'done') fill();
        }),
    ],
  ];
  for (const [name, pull] of stages)
    it(`${name}: fails the pull, keeps what was there, and lets it be removed`, async () => {
      const kept = await bring(sized(2 * 1024 * 1024), 'kept');
      await assert.rejects(pull(), { kind: 'resource_exhausted', message: /no space left on device/ });
      assert.deepEqual(
        images.list().map(({ id }) => id),
        [kept.id],
      );
      await images.remove(kept.id);
      assert.deepEqual(images.list(), []);
      while (layerDirs().length > 0) await sleep(5);
      for (const dir of ['blobs/sha256', 'ingest', 'partial'])
        assert.deepEqual(readdirSync(join(disk, 'images/content', dir)), []);
      rmSync(join(disk, 'filler'), { force: true });
      assert.ok(await bring(sized(1024 * 1024), 'next'));
    });
});
