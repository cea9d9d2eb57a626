import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import type { NewArtefact } from '../../../src/image/artefact-output';
import { Content } from '../../../src/image/content/content';
import { digestOf, hexOf, type Digest } from '../../../src/image/digest';
import { openImages, type Images } from '../../../src/image/images';
import type { BuiltLayer, Workshop } from '../../../src/image/workshop';
import { openStore, type Store } from '../../../src/store/store';
import { tempFolder } from '../../support/temp';

const configType = 'application/vnd.test.config.v1+json';
const rules = { configTypes: [configType], layersMax: 100 };

describe('what is stored like an image and is none', function () {
  this.timeout(120_000);
  // Before the folder goes.
  afterEach(async () => {
    await images.close();
    await store.close();
  });
  const { path, write } = tempFolder();
  const ctx = () => Context.of(silentLogger, {});
  let store: Store;
  let images: Images;

  beforeEach(async () => {
    store = openStore(path('store'), silentLogger);
    const parts = { root: path('images'), store, log: silentLogger, layersInUse: () => [] };
    images = await openImages({ ...parts, retryDelayMs: 1 });
  });

  async function layerOf(workshop: Workshop, text: string): Promise<BuiltLayer> {
    const upper = workshop.fresh('upper');
    mkdirSync(upper);
    writeFileSync(join(upper, 'file'), text);
    const layer = await workshop.pack(ctx(), upper, { below: [] });
    assert.ok(layer);
    return layer;
  }

  const artefactOf = async (workshop: Workshop, ...layers: readonly BuiltLayer[]): Promise<NewArtefact> =>
    workshop.artefact(
      Buffer.from(JSON.stringify({ of: layers.map(({ layer }) => layer.diffId) })),
      configType,
      layers.map(({ descriptor }) => descriptor),
    );
  const put = (tag: string, artefact: NewArtefact) =>
    images.writeArtefact(ctx(), { directory: path('layout'), which: tag }, artefact);
  const get = (tag: string) =>
    images.readArtefact(ctx(), { directory: path('layout'), which: tag }, rules, images.node);
  const blobs = () => readdirSync(path('layout/blobs/sha256'));
  const index = () =>
    JSON.parse(readFileSync(path('layout/index.json'), 'utf8')) as { manifests: { digest: string; size: number }[] };

  it('is whole under each of its tags when many builds write to one directory at once', async () => {
    await images.build(async workshop => {
      const layers = await Promise.all(['one', 'two', 'three'].map(text => layerOf(workshop, text)));
      const [a, b, c] = layers;
      assert.ok(a && b && c);
      // Each round replaces what has some layers in common with what is being written beside it.
      for (const pairs of [
        [a, b],
        [c, a],
      ]) {
        const tags = ['x', 'y', 'z'];
        const pair = await artefactOf(workshop, ...pairs);
        const single = await artefactOf(workshop, ...pairs.slice(0, 1));
        await Promise.all(tags.map((tag, i) => put(tag, i % 2 === 0 ? pair : single)));
        for (const [i, tag] of tags.entries()) {
          const { manifest } = await get(tag);
          assert.equal(manifest.layers.length, i % 2 === 0 ? 2 : 1, tag);
          for (const { digest } of manifest.layers) assert.ok(blobs().includes(hexOf(digest)), `a layer of ${tag}`);
        }
      }
      assert.equal(blobs().length, 6, 'two layers, and two documents of both artefacts');
    });
  });

  it('is not added where the index could not be read any more', async () => {
    await images.build(async workshop => {
      const artefact = await artefactOf(workshop, await layerOf(workshop, 'one'));
      await put('first', artefact);
      const [own] = index().manifests;
      const more = Array.from({ length: 999 }, (_, i) => ({
        ...{ ...own, mediaType: 'application/vnd.oci.image.manifest.v1+json' },
        annotations: { 'org.opencontainers.image.ref.name': `t${i}` },
      }));
      write('layout/index.json', JSON.stringify({ ...index(), manifests: [...index().manifests, ...more] }));
      await assert.rejects(put('another', artefact), /has 1000 entries already, .*; name a tag that is there/);
      await put('t5', artefact);
      assert.equal((await get('first')).manifest.layers.length, 1);
      assert.equal(index().manifests.length, 1000);
    });
  });

  it('costs no more where a stranger names the same long manifest again and again', async () => {
    await images.build(async workshop => {
      await put('mine', await artefactOf(workshop, await layerOf(workshop, 'one')));
      const digest = (i: number) => `sha256:${String(i).padStart(64, '0')}` as Digest;
      const mediaType = 'application/vnd.oci.image.layer.v1.tar';
      const document = JSON.stringify({
        ...{ schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json' },
        config: { mediaType: configType, digest: digest(0), size: 2 },
        layers: Array.from({ length: 15_000 }, (_, i) => ({ mediaType, digest: digest(i + 1), size: 1 })),
      });
      const long = digestOf(Buffer.from(document));
      write(`layout/blobs/sha256/${hexOf(long)}`, document);
      const entry = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: long, size: document.length };
      write(
        'layout/index.json',
        JSON.stringify({ ...index(), manifests: [...index().manifests, ...Array<object>(998).fill(entry)] }),
      );
      const before = blobs();
      await put('mine', await artefactOf(workshop, await layerOf(workshop, 'two')));
      assert.equal((await get('mine')).manifest.layers.length, 1);
      assert.equal(blobs().length, before.length, 'those of the first are gone');
    });
  });

  it('has blobs that are on disk and called what they are, also of layers that are here without one', async () => {
    const built = await images.build(async workshop => {
      const layer = await layerOf(workshop, 'one');
      const document = {
        ...{ os: images.node.os, architecture: images.node.architecture, config: {}, history: [] },
        rootfs: { type: 'layers', diff_ids: [layer.layer.diffId] },
      };
      await workshop.finish(ctx(), [{ document, layers: [layer] }], ['localhost/image:1']);
      await put('mine', await artefactOf(workshop, layer));
      return layer;
    });
    const { descriptor, layer } = built;
    const blob = path('images/content/blobs/sha256', hexOf(descriptor.digest));
    rmSync(blob);
    const synced: string[] = [];
    const { sync } = Object.getOwnPropertyDescriptors(Content.prototype);
    Object.defineProperty(Content.prototype, 'sync', {
      ...sync,
      value(this: Content, digest: Digest) {
        synced.push(digest);
        return sync.value?.call(this, digest);
      },
    });
    const bring = () =>
      images.build(async workshop => {
        const other = { ...descriptor, mediaType: 'application/vnd.oci.image.layer.v1.tar' };
        const wanted = { descriptor: other, diffId: layer.diffId };
        const brought = await workshop.bring(ctx(), await get('mine'), wanted, [], () => undefined);
        assert.equal(brought.layer.key, layer.key);
        assert.equal(readFileSync(blob).length, descriptor.sizeBytes);
        return brought.descriptor;
      });
    try {
      assert.deepEqual(await bring(), descriptor, 'whatever it was called');
      assert.deepEqual(await bring(), descriptor);
    } finally {
      Object.defineProperty(Content.prototype, 'sync', sync);
    }
    assert.deepEqual(synced, [descriptor.digest, descriptor.digest]);
  });
});
