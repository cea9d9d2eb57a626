import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BerthError } from '../../../src/base/errors';
import {
  choose,
  documentBytesMax,
  mediaTypes,
  parseImageConfig,
  parseManifest,
  type Index,
} from '../../../src/image/documents';
import { nodePlatform } from '../../../src/image/platform';

const node = { os: 'linux', architecture: 'amd64' };
const digest = `sha256:${'a'.repeat(64)}`;
const bytes = (json: unknown) => Buffer.from(JSON.stringify(json));
const manifest = {
  schemaVersion: 2,
  mediaType: mediaTypes.ociManifest,
  config: { mediaType: mediaTypes.ociConfig, digest, size: 10 },
  layers: [{ mediaType: mediaTypes.ociLayerGzip, digest, size: 20 }],
};
const config = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [digest] } };
const parse = (json: unknown, type?: string) => parseManifest(bytes(json), type, 'the manifest of app');
const parseConfig = (json: unknown) => parseImageConfig(bytes(json), 1, node, 'the config of app');
const entry = (architecture: string, variant?: string) => ({
  mediaType: mediaTypes.ociManifest,
  digest: `sha256:${Buffer.from(`${architecture}${variant ?? ''}`)
    .toString('hex')
    .padEnd(64, '0')}`,
  size: 5,
  platform: { os: 'linux', architecture, ...(variant ? { variant } : {}) },
});
const index = (...manifests: unknown[]) => parse({ schemaVersion: 2, manifests }, mediaTypes.ociIndex) as Index;

describe('documents', () => {
  it('of an image are read', () => {
    assert.deepEqual(parse(manifest, mediaTypes.ociManifest), {
      kind: 'manifest',
      config: { mediaType: mediaTypes.ociConfig, digest, sizeBytes: 10 },
      layers: [{ mediaType: mediaTypes.ociLayerGzip, digest, sizeBytes: 20 }],
    });
    assert.equal(parse(manifest, 'application/json').kind, 'manifest');
  });

  const refused: [what: string, json: unknown, type: string | undefined, why: RegExp][] = [
    [
      'a manifest and an index at once',
      { ...manifest, manifests: [] },
      undefined,
      /it is a manifest and an index at once/,
    ],
    [
      'another type than the one it came as',
      manifest,
      mediaTypes.ociIndex,
      /calls itself .*manifest.* but was handed over as .*index/,
    ],
    ['schema 1', { schemaVersion: 1, fsLayers: [] }, undefined, /schema 1 manifest/],
    ['no JSON object', [], undefined, /not a JSON object/],
    [
      'a digest that is a path',
      { ...manifest, layers: [{ ...manifest.layers[0], digest: 'sha256:../../x' }] },
      undefined,
      /layers\.0\.digest: is not a digest/,
    ],
    ['a negative size', { ...manifest, layers: [{ ...manifest.layers[0], size: -1 }] }, undefined, /layers\.0\.size/],
    [
      'a huge config',
      { ...manifest, config: { ...manifest.config, size: documentBytesMax + 1 } },
      undefined,
      /is the limit/,
    ],
    [
      'too many layers',
      { ...manifest, layers: Array.from({ length: 501 }, () => manifest.layers[0]) },
      undefined,
      /more than 500 layers/,
    ],
    [
      'an artifact',
      { ...manifest, config: { ...manifest.config, mediaType: 'application/vnd.cncf.helm.config.v1+json' } },
      undefined,
      /helm.* is not a container image/,
    ],
    [
      'a zstd layer',
      { ...manifest, layers: [{ ...manifest.layers[0], mediaType: 'application/vnd.oci.image.layer.v1.tar+zstd' }] },
      undefined,
      /tar\+zstd, which this berth cannot unpack/,
    ],
  ];
  for (const [what, json, type, why] of refused)
    it(`are refused: ${what}`, () => {
      assert.throws(() => parse(json, type), { kind: 'failed_precondition', message: why });
    });

  it('are refused when they are longer than the limit', () => {
    assert.throws(() => parseManifest(Buffer.alloc(documentBytesMax + 1, ' '), undefined, 'x'), /4194304 is the limit/);
  });

  it('give the entry for this node, its variant included', () => {
    const some = index(entry('arm', 'v6'), entry('arm', 'v7'), entry('arm', 'v8'), entry('amd64'));
    const architecture = (arch: NodeJS.Architecture) => choose(some, nodePlatform(arch), 'app').digest;
    assert.equal(architecture('arm'), entry('arm', 'v7').digest);
    assert.equal(architecture('x64'), entry('amd64').digest);
    assert.equal(choose(index(entry('arm', 'v6')), nodePlatform('arm'), 'app').digest, entry('arm', 'v6').digest);
    assert.equal(choose(index(entry('arm64')), nodePlatform('arm64'), 'app').digest, entry('arm64').digest);
    assert.throws(
      () => choose(index(entry('amd64', 'v3')), node, 'app'),
      /it offers linux\/amd64\/v3, and this node is linux\/amd64/,
    );
    assert.throws(() => choose(index(), node, 'app'), /it offers nothing/);
  });

  it('leave out attestations', () => {
    const attestation = { ...entry('x'), platform: { os: 'unknown', architecture: 'unknown' } };
    assert.equal(index(attestation, entry('amd64')).entries.length, 1);
  });

  it('of a config may leave everything out, or say null', () => {
    const bare = {
      env: [],
      entrypoint: [],
      cmd: [],
      user: '',
      workingDir: '',
      volumes: [],
      exposedPorts: [],
      labels: {},
      history: [],
    };
    const full = { architecture: 'amd64', os: 'linux', diffIds: [digest], ...bare };
    assert.deepEqual(parseConfig(config), full);
    assert.deepEqual(
      parseConfig({
        ...config,
        created: null,
        history: null,
        config: { Env: null, Cmd: null, Labels: null, Volumes: null, User: null },
      }),
      full,
    );
    const set = parseConfig({
      ...config,
      config: {
        Env: ['A=b'],
        Volumes: { '/data': {} },
        ExposedPorts: { '80/tcp': {} },
        Entrypoint: 'sh',
        StopSignal: 'SIGQUIT',
      },
    });
    assert.deepEqual(
      [set.env, set.volumes, set.exposedPorts, set.entrypoint, set.stopSignal],
      [['A=b'], ['/data'], ['80/tcp'], ['sh'], 'SIGQUIT'],
    );
  });

  it('of a config must fit the manifest and the node', () => {
    assert.throws(() => parseImageConfig(bytes(config), 2, node, 'c'), /it names 1 layers, and the manifest 2/);
    assert.throws(
      () => parseConfig({ ...config, architecture: 'arm64' }),
      /it offers linux\/arm64, and this node is linux\/amd64/,
    );
  });

  it('never do anything but parse or be refused', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(undefined, ...Object.values(mediaTypes)), (json, type) => {
        for (const read of [() => parse(json, type), () => parseConfig(json)])
          try {
            read();
          } catch (error) {
            assert.ok(error instanceof BerthError, String(error));
          }
      }),
      { numRuns: 2000 },
    );
  });
});
