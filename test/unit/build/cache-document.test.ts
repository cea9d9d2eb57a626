import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BerthError } from '../../../src/base/errors';
import {
  cacheConfigType,
  cacheRules,
  inlineKey,
  readCacheDocument,
  writeCacheDocument,
  type SharedResult,
} from '../../../src/build/cache-document';
import { withInlineCache } from '../../../src/build/cache-export';
import { writeManifest } from '../../../src/image/archive';
import { digestOf, sha256 } from '../../../src/image/digest';
import { mediaTypes, parseArtefact, type Descriptor } from '../../../src/image/documents';
import type { BuiltLayer } from '../../../src/image/workshop';

const platform = { os: 'linux', architecture: 'amd64' };
const hex = fc.stringMatching(/^[0-9a-f]{64}$/);

const layerOf = fc.record({ digest: hex, diffId: hex, sizeBytes: fc.nat() }).map(({ digest, diffId, sizeBytes }) => ({
  descriptor: { mediaType: mediaTypes.ociLayerGzip, digest: sha256(digest), sizeBytes },
  diffId: sha256(diffId),
}));
const resultOf: fc.Arbitrary<SharedResult> = fc
  .record({ key: hex, createdAtMs: fc.nat(), layer: fc.option(layerOf, { nil: undefined }) })
  .map(({ layer, ...rest }) => ({ ...rest, ...(layer ? { layer } : {}) }));

/** As one that names the place would meet it. */
function read(config: Buffer, layers: readonly Descriptor[], configType = cacheConfigType) {
  const { manifest } = writeManifest(config, layers, configType);
  const found = parseArtefact(manifest, mediaTypes.ociManifest, cacheRules, 'it');
  assert.ok(found.kind === 'manifest');
  return readCacheDocument(config, found, platform, 'it');
}

describe('the document of a cache that is handed on', () => {
  it('says what was put into it, and each layer once', () => {
    fc.assert(
      fc.property(fc.uniqueArray(resultOf, { selector: ({ key }) => key }), results => {
        const { config, layers } = writeCacheDocument(results, platform);
        assert.deepEqual([...read(config, layers).values()], results);
        assert.equal(new Set(layers.map(({ digest }) => digest)).size, layers.length);
        const image = Buffer.from(JSON.stringify({ os: 'linux', [inlineKey]: config.toString() }));
        assert.deepEqual([...read(image, layers, mediaTypes.ociConfig).values()], results, 'in an image, too');
      }),
    );
  });

  it('takes the last of several results with one key', () => {
    const result = (createdAtMs: number) => ({ key: 'a'.repeat(64), createdAtMs });
    const { config, layers } = writeCacheDocument([result(1), result(2)], platform);
    assert.deepEqual([...read(config, layers).values()], [result(2)]);
  });

  it('has in an image what the image is made of', () => {
    const result = (text: string): SharedResult => {
      const digest = digestOf(Buffer.from(text));
      const descriptor = { mediaType: mediaTypes.ociLayerGzip, digest, sizeBytes: 1 };
      return { key: digest.slice('sha256:'.length), createdAtMs: 1, layer: { descriptor, diffId: digest } };
    };
    const [own, other, none] = [result('own'), result('other'), { key: 'a'.repeat(64), createdAtMs: 1 }];
    assert.ok(own.layer);
    const layers = [{ descriptor: own.layer.descriptor }] as unknown as BuiltLayer[];
    const document = withInlineCache({ os: 'linux' }, layers, [own, other, none], platform);
    assert.equal(document.os, 'linux');
    const found = read(Buffer.from(JSON.stringify(document)), [own.layer.descriptor], mediaTypes.ociConfig);
    assert.deepEqual([...found.values()], [own, none]);
  });

  it('has neither the text of a step nor its inputs', () => {
    const { config } = writeCacheDocument([{ key: 'a'.repeat(64), createdAtMs: 1 }], platform);
    const document = JSON.parse(config.toString()) as { results: object[] };
    assert.deepEqual(document.results.map(Object.keys), [['key', 'createdAtMs']]);
  });

  const digest = digestOf(Buffer.from('a'));
  const layer = { mediaType: mediaTypes.ociLayerGzip, digest, sizeBytes: 1 };
  const result = { key: 'a'.repeat(64), createdAtMs: 1, layer: { digest, diffId: digest } };
  const good = { version: 1, platform: 'linux/amd64', results: [result] };
  const refusals: [what: string, document: unknown, why: RegExp][] = [
    ['no JSON', 'x', /not a JSON object/],
    ['another version', { ...good, version: 2 }, /version: is not 1/],
    [
      'another platform',
      { ...good, platform: 'linux/arm64' },
      /is of a node of "linux\/arm64", and this one is linux\/amd64/,
    ],
    ['no results', { version: 1, platform: 'linux/amd64' }, /results/],
    ['a key that is none', { ...good, results: [{ ...result, key: '../../etc' }] }, /key: is no key/],
    ['a key twice', { ...good, results: [result, result] }, /the key a+ stands twice/],
    ['a time that is none', { ...good, results: [{ ...result, createdAtMs: 9e15 }] }, /createdAtMs/],
    ['a time with a fraction', { ...good, results: [{ ...result, createdAtMs: 0.5 }] }, /createdAtMs/],
    [
      'a digest that is a path',
      { ...good, results: [{ ...result, layer: { digest: '../x', diffId: digest } }] },
      /is not a digest/,
    ],
    ['no diff id', { ...good, results: [{ ...result, layer: { digest } }] }, /diffId/],
    [
      'a layer that the manifest does not name',
      { ...good, results: [{ ...result, layer: { digest: digestOf(Buffer.from('b')), diffId: digest } }] },
      /its manifest has no layer/,
    ],
    ['far too many results', { ...good, results: Array.from({ length: 10_001 }, () => 0) }, /results/],
  ];
  for (const [what, document, why] of refusals)
    it(`is refused with ${what}`, () => {
      assert.equal(read(Buffer.from(JSON.stringify(good)), [layer]).size, 1);
      assert.throws(
        () => read(Buffer.from(JSON.stringify(document)), [layer]),
        error => error instanceof BerthError && why.test(error.message),
      );
    });

  it('is refused below a manifest that is another thing, or that names what cannot be a layer', () => {
    const config = Buffer.from(JSON.stringify(good));
    const refused: [layers: Descriptor[], type: string, why: RegExp][] = [
      [[layer], mediaTypes.ociEmpty, /has a config of type application\/vnd\.oci\.empty/],
      [[layer], mediaTypes.ociConfig, /is an image without a cache; build it with --cache-to type=inline/],
      [[{ ...layer, mediaType: 'text/html' }], cacheConfigType, /a layer of type text\/html/],
      [[{ ...layer, sizeBytes: 2 ** 50 }], cacheConfigType, /is said to have/],
      [[{ ...layer, sizeBytes: -1 }], cacheConfigType, /size/],
    ];
    for (const [layers, type, why] of refused) assert.throws(() => read(config, layers, type), why);
    const { manifest } = writeManifest(config, [layer], cacheConfigType);
    const shown = (bytes: Buffer, type?: string) => () => parseArtefact(bytes, type, cacheRules, 'it');
    assert.throws(shown(manifest, mediaTypes.dockerManifest), /was handed over as/);
    assert.throws(shown(Buffer.alloc(5 * 1024 * 1024, ' ')), /is 5242880 bytes long/);
    const config5M = { mediaType: cacheConfigType, digest, size: 5 * 1024 * 1024 };
    const far = Buffer.from(JSON.stringify({ schemaVersion: 2, config: config5M, layers: [] }));
    assert.throws(shown(far), /the config of it is 5242880 bytes long/);
    const both = Buffer.from(JSON.stringify({ ...(JSON.parse(manifest.toString()) as object), manifests: [] }));
    assert.throws(shown(both), /a manifest and an index at once/);
    const index = (layers: object) => Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [], ...layers }));
    assert.equal(shown(index({}), mediaTypes.ociIndex)().kind, 'index');
    assert.throws(shown(index({ mediaType: mediaTypes.ociIndex, layers: [] })), /a manifest and an index at once/);
    assert.throws(shown(index({ mediaType: 'text/html' })), /of type text\/html, which is no manifest/);
  });
});
