import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { open, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import { digestOf, hexOf } from '../../../src/image/digest';
import { mediaTypes, type Descriptor } from '../../../src/image/documents';
import { openImages, type Images } from '../../../src/image/images';
import type { ImageSource } from '../../../src/image/source';
import type { BuiltLayer, Workshop } from '../../../src/image/workshop';
import { openStore, type Store } from '../../../src/store/store';
import { blob, buildImage, descriptor, tar, type TarEntry } from '../../support/image-builder';

const refuse = () => Promise.reject(new Error('nobody asks for this'));

describe('a layer by itself, for a build', function () {
  this.timeout(60_000);
  let root: string;
  let store: Store;
  let images: Images;
  let asked: string[];
  let blobs: Map<string, Buffer>;
  const ctx = Context.of(silentLogger);

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), 'berth-single-'));
    store = openStore(join(root, 'store'), silentLogger);
    images = await openImages({ root: join(root, 'images'), store, log: silentLogger, layersInUse: () => [] });
    asked = [];
    blobs = new Map();
  });
  afterEach(async () => {
    await images.close();
    await store.close();
    const left = readdirSync(join(root, 'images/layers')).filter(name => /^(tmp|trash)-/.test(name));
    rmSync(root, { recursive: true, force: true });
    assert.deepEqual(left, []);
  });

  /** Has the blobs, whatever their names are. */
  const source: ImageSource = {
    manifest: refuse,
    smallBlob: refuse,
    blob: async (_ctx, digest) => {
      asked.push(digest);
      const path = join(root, hexOf(digest));
      await writeFile(path, blobs.get(digest) ?? '');
      const file = await open(path);
      return { offset: 0, from: 'a test', file, close: () => file.close() };
    },
  };

  /** A blob, compressed in one of several ways, that the source has. */
  function offered(bytes: Buffer, level = 6): Descriptor {
    const compressed = gzipSync(bytes, { level });
    const digest = digestOf(compressed);
    blobs.set(digest, compressed);
    return { mediaType: mediaTypes.ociLayerGzip, digest, sizeBytes: compressed.length };
  }

  const bring = (workshop: Workshop, blobOf: Descriptor, bytes: Buffer, below: readonly BuiltLayer[] = [], own = ctx) =>
    workshop.bring(
      own,
      { source, repository: undefined },
      { descriptor: blobOf, diffId: digestOf(bytes) },
      below,
      () => undefined,
    );
  const keptBlob = ({ digest }: Descriptor) => join(root, 'images/content/blobs/sha256', hexOf(digest));

  /** An image is here without the blobs of its layers. */
  async function imported(layers: TarEntry[][]) {
    const image = buildImage({ layers });
    const layout = join(root, 'layout');
    mkdirSync(join(layout, 'blobs/sha256'), { recursive: true });
    for (const { digest, bytes } of [image.config, image.manifest, ...image.layers])
      writeFileSync(join(layout, 'blobs', ...digest.split(':')), bytes);
    writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    const index = blob('', Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [descriptor(image.manifest)] })));
    writeFileSync(join(layout, 'index.json'), index.bytes);
    return images.importLayout(ctx, layout, 'localhost/base:1');
  }

  const entries: TarEntry[] = [{ path: 'a', data: 'A' }];
  const bytes = tar(entries);

  it('comes with its blob, once', async () => {
    const wanted = offered(bytes);
    await images.build(async workshop => {
      const brought = await bring(workshop, wanted, bytes);
      assert.deepEqual(brought.descriptor, wanted);
      assert.equal(readFileSync(join(brought.layer.dir, 'a'), 'utf8'), 'A');
      assert.deepEqual(readFileSync(keptBlob(wanted)), blobs.get(wanted.digest));
      // Another blob of the same files is not asked for: this one will do.
      const again = await bring(workshop, offered(bytes, 1), bytes);
      assert.deepEqual([again.descriptor, again.layer.key], [wanted, brought.layer.key]);
    });
    assert.deepEqual(asked, [wanted.digest]);
    await images.collect();
    assert.ok(!existsSync(keptBlob(wanted)), 'no image and no cache needs it');
  });

  it('that is here without a blob gets the one that it is said to have, if that is so', async () => {
    const image = await imported([entries]);
    const [own] = image.layers;
    const wanted = offered(bytes, 1);
    assert.ok(own && own.digest !== wanted.digest);
    await images.build(async workshop => {
      const lie = offered(tar([{ path: 'a', data: 'B' }]));
      await assert.rejects(bring(workshop, lie, bytes), /have diff id .*, and the image config says/);
      assert.ok(!existsSync(keptBlob(lie)));
      const brought = await bring(workshop, wanted, bytes);
      assert.deepEqual([brought.layer.key, brought.descriptor], [own.key, wanted]);
      assert.deepEqual(readFileSync(keptBlob(wanted)), blobs.get(wanted.digest));
    });
    assert.equal(readFileSync(join(own.dir, 'a'), 'utf8'), 'A');
    await images.ready(ctx, image);
  });

  it('that links into those below comes on top of them', async () => {
    const image = await imported([entries]);
    const linked = tar([{ path: 'b', type: 'hardlink', link: 'a' }]);
    await images.build(async workshop => {
      const { layers } = await images.base(ctx, workshop, image);
      const { layer } = await bring(workshop, offered(linked), linked, layers);
      assert.match(layer.key, /^chain-/);
      assert.equal(readFileSync(join(layer.dir, 'b'), 'utf8'), 'A');
    });
  });

  it('that nobody waits for any more is given up, while it comes', async () => {
    const wanted = offered(bytes);
    const gone = new AbortController();
    const cut = Context.of(silentLogger, { signal: gone.signal });
    const endless: ImageSource = {
      ...{ manifest: refuse, smallBlob: refuse },
      blob: async () => ({
        ...{ offset: 0, from: 'a test', close: () => Promise.resolve() },
        pipeTo: (fd, signal) =>
          new Promise((_, reject) => {
            signal.addEventListener('abort', () => {
              closeSync(fd);
              reject(signal.reason as Error);
            });
            gone.abort();
          }),
      }),
    };
    await images.build(async workshop => {
      const request = { descriptor: wanted, diffId: digestOf(bytes) };
      const brought = workshop.bring(cut, { source: endless, repository: undefined }, request, [], () => undefined);
      await assert.rejects(brought, { kind: 'cancelled' });
    });
    await images.close();
    assert.deepEqual(
      readdirSync(join(root, 'images/layers')).filter(name => name !== 'empty'),
      [],
    );
  });

  it('that is not what it was said to be, or that nobody waits for any more, leaves nothing', async () => {
    const wanted = offered(bytes);
    blobs.set(wanted.digest, gzipSync('something else'));
    await images.build(async workshop => {
      await assert.rejects(bring(workshop, wanted, bytes), { kind: 'data_loss' });
      const gone = new AbortController();
      gone.abort();
      const ended = Context.of(silentLogger, { signal: gone.signal });
      await assert.rejects(bring(workshop, offered(bytes, 1), bytes, [], ended), { kind: 'cancelled' });
    });
    await images.collect();
    const layers = readdirSync(join(root, 'images/layers')).filter(name => name !== 'empty');
    assert.deepEqual([layers, readdirSync(join(root, 'images/content/blobs/sha256'))], [[], []]);
  });
});
