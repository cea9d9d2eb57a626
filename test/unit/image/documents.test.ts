import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BerthError } from '../../../src/base/errors';
import {
  candidates,
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
const foreign = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';
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
      'an artefact with an empty config',
      {
        ...manifest,
        artifactType: 'application/vnd.example.sbom',
        config: { ...manifest.config, mediaType: mediaTypes.ociEmpty },
      },
      undefined,
      /an artefact \(application\/vnd\.example\.sbom\)/,
    ],
    [
      'a layer of an unknown type',
      { ...manifest, layers: [{ ...manifest.layers[0], mediaType: 'application/x-\u001b[2Jxz' }] },
      undefined,
      /type application\/x-\?\[2Jxz, which this berth cannot unpack/,
    ],
    [
      'a foreign layer',
      { ...manifest, layers: [{ ...manifest.layers[0], mediaType: foreign }] },
      undefined,
      /has a foreign layer.*allow_foreign_layers/,
    ],
    [
      'a layer of an absurd size',
      { ...manifest, layers: [{ ...manifest.layers[0], size: 2 ** 50 }] },
      undefined,
      /is the limit/,
    ],
    [
      'an index of an absurd length',
      { schemaVersion: 2, manifests: Array.from({ length: 1001 }, () => entry('amd64')) },
      mediaTypes.ociIndex,
      /more than 1000 entries/,
    ],
    [
      'an index with a config',
      { schemaVersion: 2, manifests: [], config: manifest.config },
      mediaTypes.ociIndex,
      /has a config like a manifest/,
    ],
  ];
  for (const [what, json, type, why] of refused)
    it(`are refused: ${what}`, () => {
      assert.throws(() => parse(json, type), { kind: 'failed_precondition', message: why });
    });

  it('are refused before they are looked at when they hold more values than the daemon has time for', () => {
    const many = (value: string) => Array(70_000).fill(value).join(',');
    const crowd = { kind: 'failed_precondition', message: /malformed: it holds more than 65536 values$/ };
    const own = (text: string) => Buffer.from(JSON.stringify(config).replace('{', `{"config":{${text}},`));
    for (const text of [`"Env":[${many('1')}]`, `"Healthcheck":{"Test":[${many('1')}]}`, `"Labels":{${many('"a":1')}}`])
      assert.throws(() => parseImageConfig(own(text), 1, node, 'c'), crowd);
    assert.throws(() => parseManifest(Buffer.from(`{"manifests":[${many('{}')}]}`), undefined, 'm'), crowd);
    const { labels } = parseConfig({ ...config, config: { Labels: { text: ',[{\\"'.repeat(70_000) } } });
    assert.equal(labels['text']?.length, 5 * 70_000);
  });

  it('are refused when a key stands twice, or they are nested too deep', () => {
    const text = JSON.stringify(manifest);
    const read = (json: string) => parseManifest(Buffer.from(json), undefined, 'the manifest of app');
    assert.throws(() => read(text.replace('{', '{"layers":[],')), /the key "layers" stands twice/);
    assert.throws(() => read(text.replace('{', '{"l\\u0061yers":[],')), /the key "layers" stands twice/);
    assert.throws(() => read(text.replace('{', `{"x":${'['.repeat(40)}${']'.repeat(40)},`)), /deeper than 32/);
    assert.equal(read(text.replace('{', '{"x":[{"a":1},{"a":"\\"{"}],')).kind, 'manifest');
  });

  it('may have zstd layers, and foreign ones where that is configured', () => {
    const layers = [
      { ...manifest.layers[0], mediaType: mediaTypes.ociLayerZstd },
      { ...manifest.layers[0], mediaType: foreign, urls: ['http://elsewhere.example/'] },
    ];
    const read = parseManifest(bytes({ ...manifest, layers }), undefined, 'x', { allowForeignLayers: true });
    assert.deepEqual(
      read.kind === 'manifest' && read.layers.map(layer => Object.keys(layer)),
      layers.map(() => ['mediaType', 'digest', 'sizeBytes']),
    );
  });

  const hostile: [what: string, config: Record<string, unknown>, why: RegExp][] = [
    ['a number among the variables', { Env: ['A=b', 7] }, /config\.Env\.1/],
    ['a NUL in a variable', { Env: ['A=b\0c'] }, /config\.Env\.0: holds a NUL/],
    ['a variable without a name', { Env: ['=x'] }, /has no name/],
    ['a line break in a name', { Env: ['A\nB=c'] }, /control character in its name/],
    ['a line break in HOME', { Env: ['HOME=/x\nroot2::0:0::/:/bin/sh'] }, /holds a control character/],
    ['a NUL in the user', { User: 'root\0x' }, /config\.User: holds a NUL/],
    ['a line break in the working directory', { WorkingDir: '/a\nb' }, /config\.WorkingDir/],
    ['an endless working directory', { WorkingDir: `/${'a'.repeat(4096)}` }, /longer than 4095/],
    ['a control character in a volume', { Volumes: { '/a\u001b[2J': {} } }, /config\.Volumes/],
    ['a label that is no text', { Labels: { a: 1 } }, /config\.Labels\.a/],
    ['a NUL in a label', { Labels: { a: '\0' } }, /config\.Labels\.a/],
    [
      'too many labels',
      { Labels: Object.fromEntries(Array.from({ length: 2001 }, (_, i) => [`l${i}`, ''])) },
      /more than 2000/,
    ],
    [
      'more volumes than a container can have',
      { Volumes: Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`/v${i}`, {}])) },
      /config\.Volumes: are more than 1000/,
    ],
    ['a signal that is a sentence', { StopSignal: 'SIGTERM; reboot' }, /is not a signal/],
    ['a NUL in an argument', { Cmd: ['sh', 'a\0b'] }, /config\.Cmd/],
  ];
  for (const [what, own, why] of hostile)
    it(`of a config are refused for ${what}`, () => {
      assert.throws(() => parseConfig({ ...config, config: own }), { kind: 'failed_precondition', message: why });
    });

  it('of a config keep lines in values, and leave out ports that are none', () => {
    const read = parseConfig({
      ...config,
      config: { Env: ['A=b\nc'], ExposedPorts: { '80/tcp': {}, '99999': {}, '1-2/udp': {}, 'x/y': {} } },
    });
    assert.deepEqual([read.env, read.exposedPorts], [['A=b\nc'], ['80/tcp', '1-2/udp']]);
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
    for (const variant of ['', null]) {
      const unsaid = { ...entry('amd64'), platform: { os: 'linux', architecture: 'amd64', variant } };
      assert.equal(choose(index(unsaid, entry('arm64')), node, 'app').digest, unsaid.digest);
    }
  });

  it('leave out attestations', () => {
    const attestation = { ...entry('x'), platform: { os: 'unknown', architecture: 'unknown' } };
    const marked = { ...entry('amd64'), annotations: { 'vnd.docker.reference.type': 'attestation-manifest' } };
    const artefact = { ...entry('amd64'), artifactType: 'application/vnd.example.sbom' };
    assert.equal(index(attestation, marked, artefact, entry('amd64')).entries.length, 1);
  });

  it('that nest are looked through in order: what fits first, then indexes that do not say', () => {
    const nested = { mediaType: mediaTypes.ociIndex, digest, size: 5 };
    const some = index(nested, entry('amd64'), entry('s390x'));
    assert.deepEqual(
      candidates(some, node).map(({ digest: name }) => name),
      [entry('amd64').digest, digest],
    );
    assert.deepEqual(candidates(index(entry('s390x')), node), []);
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

  it('of a config may have dates that no message of ours can tell: they are no dates', () => {
    for (const created of ['2300-01-01T00:00:00Z', '+275760-09-13T00:00:00Z', '1500-01-01T00:00:00Z', 'yesterday']) {
      const { createdNs, history } = parseConfig({ ...config, created, history: [{ created }] });
      assert.deepEqual([createdNs, history], [undefined, [{ emptyLayer: false }]]);
    }
    const { createdNs } = parseConfig({ ...config, created: '2262-04-11T23:47:16.854775807Z' });
    assert.equal(createdNs, 2n ** 63n - 1n);
  });

  it('of a config must fit the manifest and the node', () => {
    assert.throws(() => parseImageConfig(bytes(config), 2, node, 'c'), /it names 1 layers, and the manifest 2/);
    assert.throws(
      () => parseConfig({ ...config, architecture: 'arm64' }),
      /it offers linux\/arm64, and this node is linux\/amd64/,
    );
  });

  it('with anything anywhere parse or are refused', () => {
    const whole = { ...config, config: { Env: ['A=b'], Labels: { a: 'b' }, User: 'u', Volumes: { '/v': {} } } };
    const put = (document: unknown, path: number[], value: unknown): unknown => {
      const [step, ...rest] = path;
      if (step === undefined || typeof document !== 'object' || document === null) return value;
      const keys = Object.keys(document);
      const key = keys[step % Math.max(keys.length, 1)];
      if (key === undefined) return value;
      const changed = put((document as Record<string, unknown>)[key], rest, value);
      return Array.isArray(document)
        ? document.map((old: unknown, i) => (String(i) === key ? changed : old))
        : { ...document, [key]: changed };
    };
    fc.assert(
      fc.property(fc.array(fc.nat(9), { maxLength: 4 }), fc.jsonValue(), (path, value) => {
        for (const read of [() => parse(put(manifest, path, value)), () => parseConfig(put(whole, path, value))])
          try {
            const found = read();
            if ('env' in found)
              for (const text of [...found.env, ...found.cmd, found.user, found.workingDir])
                assert.ok(typeof text === 'string' && !text.includes('\0'));
          } catch (error) {
            assert.ok(error instanceof BerthError, String(error));
          }
      }),
      { numRuns: 2000 },
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
