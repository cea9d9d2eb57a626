import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { ociArchive } from '../../support/archives';
import { busyboxImage, tar } from '../../support/image-builder';
import { startRegistry, type Registry } from '../../support/registry';
import { writeFiles, type Files } from './context';
import { RealDaemon } from './harness';

const base = 'localhost/busybox:1';

describe('berth build --cache-to and --cache-from, with a real daemon', function () {
  this.timeout(240_000);
  let daemon: RealDaemon;
  let registry: Registry;
  let context: string;

  before(async () => {
    registry = await startRegistry({ htpasswd: { username: 'me', password: 'canary-password' } });
    daemon = await RealDaemon.start();
    await daemon.kill('SIGTERM');
    const config = `[network]\nembedded = "none"\n[registry]\ndocker_config = "${daemon.path('docker/config.json')}"\n`;
    writeFileSync(daemon.path('config.toml'), config);
    await daemon.run();
    const archive = ociArchive(busyboxImage(), { 'io.containerd.image.name': base });
    writeFileSync(daemon.path('base.tar'), archive);
    await daemon.ok('load', '-q', '-i', daemon.path('base.tar')); // with the blobs of its layers
  });
  after(async () => {
    await registry.stop();
    assert.deepEqual(await daemon.stop(), []);
  });

  beforeEach(() => {
    context = daemon.path('context');
    rmSync(context, { recursive: true, force: true });
    mkdirSync(context);
  });

  const write = (files: Files) => writeFiles(context, files);
  const build = (...args: string[]) => daemon.berth('build', '-t', 'image', '--why', ...args, context);

  /** What a build that must succeed has printed. */
  async function built(...args: string[]): Promise<string> {
    const { code, stderr } = await build(...args);
    assert.equal(code, 0, stderr);
    return stderr;
  }

  /** Nothing of earlier builds is left but what they have exported. */
  async function forget(): Promise<void> {
    await daemon.ok('rmi', 'image');
    await daemon.ok('builder', 'prune');
  }

  const cachedSteps = (output: string) => output.split('\n').filter(line => / CACHED$/.test(line)).length;
  const warnings = (output: string) => output.split('\n').filter(line => line.startsWith('warning: '));
  const run = (...command: string[]) => daemon.ok('run', '--rm', 'image', ...command);
  const to = (name: string) => `type=local,dest=${daemon.path(name)}`;
  const from = (name: string) => `type=local,src=${daemon.path(name)}`;

  it('bring the results of all steps to a directory and back, and a change of an input misses from there on', async () => {
    write({
      a: 'A',
      Dockerfile: `FROM ${base}\nCOPY a /a\nRUN cat /a > /b; cat /proc/sys/kernel/random/uuid > /when\nRUN true`,
    });
    assert.equal(cachedSteps(await built('--cache-to', to('cache'))), 0);
    const when = await run('cat', '/when');
    await forget();
    const output = await built('--cache-from', from('cache'));
    assert.equal(cachedSteps(output), 3, output);
    assert.match(output, /cached: the same inputs as in the cache .*\/cache, latest/);
    assert.equal(await run('cat', '/when'), when);
    assert.match(await daemon.ok('check'), /all is sound/);
    await daemon.ok('save', '-q', '-o', daemon.path('image.tar'), 'image');
    await forget();
    write({ a: 'B' });
    const changed = await built('--cache-from', from('cache'));
    assert.equal(cachedSteps(changed), 0, changed);
    assert.match(changed, /not cached: .*; and it is not in the cache .*\/cache, latest/);
    assert.deepEqual(warnings(changed), []);
    const own = await built('--cache-from', from('none'));
    assert.deepEqual([cachedSteps(own), warnings(own)], [3, []], 'nobody is asked for what the node has');
    await forget();
  });

  it('count for the builds that name the cache alone, which is asked each time', async () => {
    write({ Dockerfile: `FROM ${base} AS one\nRUN echo one > /one\nFROM ${base}\nCOPY --from=one /one /\nRUN true` });
    await built('--cache-to', `${to('max')},mode=max`);
    await forget();
    assert.equal(cachedSteps(await built('--cache-from', from('max'))), 3);
    await daemon.ok('rmi', 'image');
    assert.equal(cachedSteps(await built('--cache-from', from('max'), '--no-cache')), 0);
    await forget();
    assert.equal(cachedSteps(await built('--cache-from', from('max'))), 3);
    assert.equal(cachedSteps(await built()), 0, 'they are not the results of the node');
    await forget();
    await built('--cache-from', from('max'));
    // What has come once stays, and need not come again, also for the next daemon.
    for (const name of blobsOf('max').filter(name => isLayer(blob('max', name)))) rmSync(blob('max', name));
    await daemon.kill('SIGTERM');
    await daemon.run();
    const again = await built('--cache-from', from('max'));
    assert.deepEqual([cachedSteps(again), warnings(again)], [3, []]);
    rmSync(daemon.path('max'), { recursive: true });
    const gone = await built('--cache-from', from('max'));
    assert.equal(cachedSteps(gone), 0);
    assert.match(
      warnings(gone).join('\n'),
      /^warning: the cache .*\/max, latest is not used: .*\/max: there is no such directory$/,
    );
    assert.equal(warnings(gone).length, 1);
    await forget();
  });

  it('have the stages of the result alone, or all, in a directory that does not grow for ever', async () => {
    const dockerfile = (text: string) =>
      `FROM ${base} AS one\nRUN echo ${text} > /one\nFROM ${base} AS two\nRUN true\nFROM two\nCOPY --from=one /one /`;
    write({ Dockerfile: dockerfile('first') });
    await built('--cache-to', to('mode'), '--cache-to', `${to('mode')},tag=all,mode=max`);
    assert.deepEqual([resultsIn('mode', 'latest'), resultsIn('mode', 'all')], [2, 3]);
    const before = blobsOf('mode');
    await forget();
    write({ Dockerfile: dockerfile('second') });
    await built('--cache-to', `${to('mode')},tag=all,mode=max`);
    assert.equal(resultsIn('mode', 'latest'), 2);
    await built('--cache-to', to('mode'));
    assert.equal(blobsOf('mode').length, before.length);
    assert.deepEqual(
      blobsOf('mode').filter(name => before.includes(name)),
      [],
    );
    assert.equal(cachedSteps(await built('--cache-from', `${from('mode')},tag=all`, '--cache-to', to('other'))), 3);
    await forget();
    assert.equal(cachedSteps(await built('--cache-from', from('mode'))), 2, 'the copy is, once its stage is built');
    await forget();
  });

  it('have what a build for several platforms has yielded', async () => {
    write({ a: 'A', Dockerfile: 'FROM scratch\nARG TARGETARCH\nCOPY a /a\nWORKDIR /$TARGETARCH' });
    const args = ['--platform', 'linux/amd64,linux/arm64,linux/ppc64le', '--output', 'type=none'];
    assert.equal(cachedSteps(await built(...args, '--cache-to', to('platforms'))), 0);
    await daemon.ok('builder', 'prune');
    const output = await built(...args, '--cache-from', from('platforms'));
    assert.deepEqual([cachedSteps(output), warnings(output)], [6, []]);
    await daemon.ok('builder', 'prune');
  });

  it('go by a registry, with the logins that a push has', async () => {
    write({ a: 'A', Dockerfile: `FROM ${base}\nCOPY a /a\nRUN cat /proc/sys/kernel/random/uuid > /when` });
    const name = `${registry.host}/me/cache:1`;
    const refused = await build('--cache-to', name, '--cache-from', name);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /warning: the cache .*\/me\/cache:1 is not used: .*answered 401/);
    assert.match(refused.stderr, /^berth: export the cache to .*\/me\/cache:1: .*answered 401.*login/m);
    assert.equal((await daemon.berth('inspect', 'image')).code, 1);
    await daemon.ok('builder', 'prune');
    await daemon.berthWith('canary-password', 'login', '-u', 'me', '--password-stdin', registry.host);
    const first = await built('--cache-from', name, '--cache-to', `type=registry,ref=${name},image-manifest=true`);
    assert.match(first, /warning: the cache .* is not used: .*answered 404/);
    const when = await run('cat', '/when');
    await forget();
    const output = await built('--cache-from', name);
    assert.deepEqual([cachedSteps(output), warnings(output)], [2, []]);
    assert.equal(await run('cat', '/when'), when);
    // An image that came by a cache is whole, and is none itself, unless it was asked to be.
    const image = `${registry.host}/me/image:1`;
    const pushed = async (...args: string[]) => {
      await built(...args);
      const unique = await run('cat', '/when');
      await daemon.ok('tag', 'image', image);
      await daemon.ok('push', '-q', image);
      await daemon.ok('rmi', image);
      await forget();
      return unique;
    };
    assert.equal(await pushed('--cache-from', name), when);
    const other = await built('--cache-from', image, '--cache-from', `type=registry,ref=${name}`);
    assert.equal(cachedSteps(other), 2);
    assert.match(
      warnings(other).join('\n'),
      /^warning: the cache .*\/me\/image:1 is not used: .*without a cache[^\n]*$/,
    );
    const own = await pushed('--cache-to', 'type=inline');
    const inline = await built('--cache-from', image);
    assert.deepEqual([cachedSteps(inline), warnings(inline)], [2, []]);
    assert.equal(await run('cat', '/when'), own);
    assert.notEqual(own, when);
    await forget();
    assert.ok(!daemon.said.includes('canary'));
  });

  it('are refused under a digest before anything is built', async () => {
    write({ Dockerfile: `FROM ${base}\nRUN echo a > /a` });
    const digest = `sha256:${'1'.repeat(64)}`;
    for (const place of [`${registry.host}/me/cache@${digest}`, `${to('refused')},tag=${digest}`]) {
      const { code, stderr } = await build('--cache-to', place);
      assert.equal(code, 1);
      assert.match(stderr, /^berth: a cache is written under a tag, and .*sha256:1+ is a digest\n$/);
    }
    assert.ok(!existsSync(daemon.path('refused')));
  });

  it('fail a build that cannot export, unless that shall not matter', async () => {
    write({ Dockerfile: `FROM ${base}\nRUN echo a > /a` });
    writeFileSync(daemon.path('file'), '');
    const failed = await build('--cache-to', to('file/below'));
    assert.equal(failed.code, 1);
    assert.match(failed.stderr, /^berth: export the cache to .*\/file\/below, latest: write to .*ENOTDIR/m);
    assert.equal((await daemon.berth('inspect', 'image')).code, 1, 'nothing has the name');
    const output = await built('--cache-to', `${to('file/below')},ignore-error=true`);
    assert.match(warnings(output).join('\n'), /^warning: export the cache to .*ENOTDIR/);
    await forget();
  });

  it('tell others neither secrets nor build arguments', async () => {
    writeFileSync(daemon.path('secret'), 'canary-secret');
    write({ Dockerfile: `FROM ${base}\nARG WORD\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s > /n` });
    const args = ['--secret', `id=s,src=${daemon.path('secret')}`, '--build-arg', 'WORD=canary-word'];
    await built(...args, '--cache-to', `${to('secrets')},mode=max`);
    const texts = blobsOf('secrets').map(name => plain(readFileSync(blob('secrets', name))).toString('latin1'));
    assert.equal(texts.length, 3);
    assert.deepEqual(
      texts.filter(text => text.includes('canary')),
      [],
    );
    await forget();
    assert.equal(cachedSteps(await built(...args, '--cache-from', from('secrets'))), 1);
    await forget();
  });

  it('believe nothing that a cache says before it is seen to be so', async () => {
    write({ a: 'A', Dockerfile: `FROM ${base}\nCOPY a /a` });
    const noImage = ['--output', 'type=none'];
    await built(...noImage, '--cache-to', to('good'));
    writeFileSync(daemon.path('outside'), 'outside');
    const layerName = () => blobsOf('bad').find(name => isLayer(blob('bad', name))) ?? '';
    const evil = tar([{ path: '../../../evil', data: 'x' }]);
    const tampered: [how: string, tamper: () => void, why: RegExp][] = [
      [
        'another byte',
        () => writeFileSync(blob('bad', layerName()), other(readFileSync(blob('bad', layerName())))),
        /digest|gzip/,
      ],
      ['too long', () => appendFileSync(blob('bad', layerName()), 'more'), /more than \d+ bytes came/],
      ['gone', () => rmSync(blob('bad', layerName())), /has no "blobs/],
      ['a link', () => linkTo(blob('bad', layerName()), daemon.path('outside')), /a link leads out of it/],
      ['another diff id', () => rewrite('bad', { diffId: `sha256:${'0'.repeat(64)}` }), /have diff id/],
      ['a name that leads out', () => rewrite('bad', { tar: evil }), /the name leads out of the image/],
      ['a key that is none', () => rewrite('bad', { key: 'x' }), /is malformed: .*is no key/],
      ['an index that is a link', () => linkTo(daemon.path('bad/index.json'), daemon.path('outside')), /leads out/],
      ['an index without end', () => truncateSync(daemon.path('bad/index.json'), 2 ** 32), /4294967296 bytes long/],
    ];
    for (const [how, tamper, why] of tampered) {
      await daemon.ok('builder', 'prune');
      rmSync(daemon.path('bad'), { recursive: true, force: true });
      cpSync(daemon.path('good'), daemon.path('bad'), { recursive: true });
      tamper();
      const output = await built(...noImage, '--cache-from', from('bad'));
      assert.equal(cachedSteps(output), 0, how);
      assert.equal(warnings(output).length, 1, how);
      assert.match(warnings(output).join(), why, how);
    }
    assert.equal(readFileSync(daemon.path('outside'), 'utf8'), 'outside');
    await daemon.ok('builder', 'prune');
    // The tampering alone is what was wrong.
    assert.equal(cachedSteps(await built('--cache-from', from('good'))), 1);
    assert.equal(await run('cat', '/a'), 'A');
    await forget();
    assert.match(await daemon.ok('check'), /all is sound/);
    const isGone = () => readdirSync(daemon.path('root/incoming')).length === 0;
    await daemon.eventually('what the builds were sent goes', isGone, 60_000);
  });

  /* ---- a layout ---- */

  const blob = (layout: string, name: string) => daemon.path(layout, 'blobs/sha256', name);
  const blobsOf = (layout: string) => readdirSync(daemon.path(layout, 'blobs/sha256'));
  const read = (layout: string, digest: string) =>
    JSON.parse(readFileSync(blob(layout, digest.slice('sha256:'.length)), 'utf8')) as Document;
  const indexOf = (layout: string) => JSON.parse(readFileSync(daemon.path(layout, 'index.json'), 'utf8')) as Index;

  function resultsIn(layout: string, tag: string): number {
    const entry = indexOf(layout).manifests.find(
      ({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] === tag,
    );
    return read(layout, read(layout, entry?.digest ?? '').config.digest).results.length;
  }

  function put(layout: string, bytes: Buffer): { digest: string; size: number } {
    const name = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(blob(layout, name), bytes);
    return { digest: `sha256:${name}`, size: bytes.length };
  }

  /** Makes the only result of a layout another one; all digests are right. */
  function rewrite(layout: string, change: { key?: string; diffId?: string; tar?: Buffer }): void {
    const index = indexOf(layout);
    const manifest = read(layout, index.manifests[0]?.digest ?? '');
    const config = read(layout, manifest.config.digest);
    const [result] = config.results;
    const [layer] = manifest.layers;
    assert.ok(result?.layer && layer);
    if (change.tar) {
      Object.assign(layer, put(layout, gzipSync(change.tar)));
      result.layer = { digest: layer.digest, diffId: put(layout, change.tar).digest };
    }
    if (change.diffId !== undefined) result.layer.diffId = change.diffId;
    if (change.key !== undefined) result.key = change.key;
    Object.assign(manifest.config, put(layout, Buffer.from(JSON.stringify(config))));
    Object.assign(index.manifests[0] ?? {}, put(layout, Buffer.from(JSON.stringify(manifest))));
    writeFileSync(daemon.path(layout, 'index.json'), JSON.stringify(index));
  }
});

interface Descriptor {
  digest: string;
  size: number;
}

/** A manifest or a cache's config. */
interface Document {
  config: Descriptor;
  layers: Descriptor[];
  results: { key: string; layer?: { digest: string; diffId: string } }[];
}

interface Index {
  manifests: (Descriptor & { annotations?: Record<string, string> })[];
}

function isLayer(path: string): boolean {
  return readFileSync(path).subarray(0, 2).toString('hex') === '1f8b';
}

function plain(bytes: Buffer): Buffer {
  return bytes.subarray(0, 2).toString('hex') === '1f8b' ? gunzipSync(bytes) : bytes;
}

function other(bytes: Buffer): Buffer {
  const changed = Buffer.from(bytes);
  changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1;
  return changed;
}

function linkTo(path: string, target: string): void {
  if (existsSync(path)) rmSync(path);
  symlinkSync(target, join(dirname(path), path.slice(dirname(path).length + 1)));
}
