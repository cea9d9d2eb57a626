import assert from 'node:assert/strict';
import { lstatSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import { openImages, type Images, type LayerProgress, type PullOptions } from '../../../src/image/images';
import { openStore, type Store } from '../../../src/store/store';
import { buildImage, buildIndex, busyboxImage, type TarEntry } from '../../support/image-builder';
import { pushImage, startRegistry, type Registry } from '../../support/registry';

const dir = (path: string): TarEntry => ({ path, type: 'dir' });

describe('pull', function () {
  this.timeout(30_000);
  let registry: Registry;
  let root: string;
  let store: Store;
  let images: Images;
  let inUse: string[];
  const ctx = () => Context.of(silentLogger, {});
  const pull = (name: string, options?: PullOptions) => images.pull(ctx(), `${registry.host}/${name}`, options);
  const open = async () => {
    store = openStore(join(root, 'store'), silentLogger);
    images = await openImages({
      root: join(root, 'images'),
      store,
      log: silentLogger,
      layersInUse: () => inUse,
      retryDelayMs: 1,
    });
  };
  const close = async () => {
    await images.close();
    await store.close();
  };
  const layerDirs = () => readdirSync(join(root, 'images/layers')).filter(name => name !== 'empty');
  const blobs = () => readdirSync(join(root, 'images/content/blobs/sha256'));

  before(async () => {
    registry = await startRegistry();
  });
  after(() => registry.stop());
  beforeEach(async () => {
    inUse = [];
    root = mkdtempSync(join(tmpdir(), 'berth-images-'));
    await open();
  });
  afterEach(async () => {
    await close();
    assert.deepEqual(
      layerDirs().filter(name => /^(tmp|trash)-/.test(name)),
      [],
    );
    assert.deepEqual(readdirSync(join(root, 'images/content/ingest')), []);
    rmSync(root, { recursive: true, force: true });
  });

  it('brings an image here, with its names, files and config', async () => {
    const built = busyboxImage();
    await pushImage(registry, 'box', '1', built);
    const events: LayerProgress[] = [];
    const { digest, ...image } = await pull('box:1', { onProgress: event => events.push(event) });
    assert.equal(digest, built.manifest.digest);
    assert.equal(image.id, built.id);
    assert.deepEqual(image.tags, [`${registry.host}/box:1`]);
    assert.deepEqual(image.digests, [`${registry.host}/box@${built.manifest.digest}`]);
    assert.deepEqual(image.config.cmd, ['sh']);
    assert.equal(image.config.createdNs, 1704164645000000006n);
    assert.ok(image.sizeBytes > 1_000_000n);
    const [top, base] = images.lowerDirs(image);
    assert.equal(image.layers.length, 2);
    assert.ok(top && base);
    assert.deepEqual(readFileSync(join(base, 'bin/busybox')), readFileSync('/bin/busybox'));
    assert.match(readFileSync(join(top, 'etc/passwd'), 'utf8'), /^root:/);
    assert.equal(lstatSync(join(base, 'tmp')).mode & 0o7777, 0o1777);
    assert.equal(lstatSync(join(base, 'bin')).mtimeMs, 1_600_000_000_000);
    assert.equal(events.filter(({ phase }) => phase === 'done').length, 2);
    assert.deepEqual(images.find(image.id.slice(7, 19)), image);
    assert.deepEqual(images.find(`${registry.host}/box:1@${built.manifest.digest}`), image);
    assert.deepEqual(images.find(image.id), image);
    assert.deepEqual(images.list(), [image]);
    assert.ok(images.usage().usedBytes > 1_000_000n);
  });

  it('of an image that is here asks the registry, and neither starts a process nor waits for the disk', async () => {
    await pushImage(registry, 'box', '1', busyboxImage());
    await pull('box:1');
    // Page faults of children that have ended: each process has some.
    const ofChildren = () => readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ')[8];
    const files = () => blobs().map(name => statSync(join(root, 'images/content/blobs/sha256', name)).ino);
    const [before, written] = [ofChildren(), files()];
    await pull('box:1');
    assert.deepEqual([ofChildren(), files()], [before, written]);
    await images.remove(`${registry.host}/box:1`);
    await pull('box:1');
    assert.notEqual(ofChildren(), before);
  });

  it('has the image after a restart', async () => {
    await pushImage(registry, 'box', '1', busyboxImage());
    const { digest: _, ...image } = await pull('box:1');
    await close();
    await open();
    assert.deepEqual(images.list(), [image]);
  });

  for (const format of ['oci', 'docker'] as const)
    it(`chooses this machine's image of a ${format} index, and is found by the index's digest`, async () => {
      const mine = busyboxImage({ format });
      const other = buildImage({ layers: [], architecture: 's390x', format });
      const index = buildIndex(
        [
          { image: other, platform: { os: 'linux', architecture: 's390x' } },
          { image: mine, platform: { os: 'linux', architecture: 'amd64' } },
        ],
        format,
      );
      await pushImage(registry, 'multi', format, other, other.manifest);
      await pushImage(registry, 'multi', format, mine, index);
      const image = await pull(`multi:${format}`);
      assert.equal(image.id, mine.id);
      assert.deepEqual(image.digests, [`${registry.host}/multi@${index.digest}`]);
      assert.equal((await pull(`multi@${index.digest}`)).id, mine.id);
      assert.deepEqual(images.list().length, 1);
    });

  it('names what an image offers when none of it is for this machine', async () => {
    const other = buildImage({ layers: [], architecture: 's390x' });
    await pushImage(registry, 'alien', '1', other);
    await assert.rejects(pull('alien:1'), {
      kind: 'failed_precondition',
      message: /offers linux\/s390x, and this node is linux\/amd64/,
    });
  });

  it('names the answer of the registry when there is no such image', async () => {
    await assert.rejects(pull('nothing:1'), {
      kind: 'not_found',
      message: `pull ${registry.host}/nothing:1: GET /v2/nothing/manifests/1 answered 404 (manifest unknown); check the name and tag`,
    });
  });

  it('names the endpoint when nobody listens', async () => {
    await assert.rejects(images.pull(ctx(), '127.0.0.1:1/app:1'), {
      kind: 'unavailable',
      message:
        /^pull 127\.0\.0\.1:1\/app:1: GET http:\/\/127\.0\.0\.1:1\/v2\/app\/manifests\/1 failed: connect ECONNREFUSED 127\.0\.0\.1:1 four times(?: in \d+ s)?; check/,
    });
  });

  it('is one download for a hundred who ask', async () => {
    await pushImage(registry, 'box', 'many', busyboxImage());
    const events: LayerProgress[] = [];
    const all = await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        pull('box:many', i === 0 ? { onProgress: event => events.push(event) } : {}),
      ),
    );
    assert.equal(new Set(all.map(({ id }) => id)).size, 1);
    assert.equal(events.filter(({ phase }) => phase === 'done').length, 2);
  });

  it('goes on for those who stay when one leaves, and ends when all leave', async () => {
    await pushImage(registry, 'box', 'leave', busyboxImage());
    const leaver = new AbortController();
    const leaving = images.pull(Context.of(silentLogger, { signal: leaver.signal }), `${registry.host}/box:leave`);
    const staying = pull('box:leave');
    leaver.abort();
    await assert.rejects(leaving, { kind: 'cancelled' });
    assert.equal((await staying).tags.length, 1);
    await images.remove(`${registry.host}/box:leave`);
    const alone = new AbortController();
    const lonely = images.pull(Context.of(silentLogger, { signal: alone.signal }), `${registry.host}/box:leave`);
    alone.abort();
    await assert.rejects(lonely, { kind: 'cancelled' });
    await images.close();
    assert.deepEqual(images.list(), []);
  });

  it('moves a tag to the new image; the old one stays, by digest', async () => {
    const first = busyboxImage();
    const second = busyboxImage({ config: { Cmd: ['ls'] } });
    await pushImage(registry, 'box', 'moving', first);
    await pull('box:moving');
    await pushImage(registry, 'box', 'moving', second);
    assert.equal((await pull('box:moving')).id, second.id);
    assert.deepEqual(images.find(first.id)?.tags, []);
    assert.deepEqual(images.find(first.id)?.digests, [`${registry.host}/box@${first.manifest.digest}`]);
    assert.equal(layerDirs().length, 2);
  });

  it('is undone by remove: names, layers and documents, but not what a container stands on', async () => {
    await pushImage(registry, 'box', 'a', busyboxImage());
    await pushImage(registry, 'box', 'b', busyboxImage());
    const image = await pull('box:a');
    await pull('box:b');
    assert.equal(images.find(image.id)?.tags.length, 2);
    inUse = image.layers.slice(0, 1).map(({ key }) => key);
    await images.remove(`${registry.host}/box:a`);
    await images.remove(`${registry.host}/box:a`);
    assert.deepEqual(images.list(), []);
    assert.deepEqual(
      layerDirs().filter(name => !name.startsWith('trash-')),
      inUse,
    );
    assert.deepEqual(blobs(), []);
    // A container that was about to be made of it gets all of it, or nothing.
    assert.throws(() => images.lowerDirs(image), {
      kind: 'not_found',
      message: /was removed meanwhile; pull it again/,
    });
    inUse = [];
    await images.collect();
    assert.deepEqual(
      layerDirs().filter(name => !name.startsWith('trash-')),
      [],
    );
    while (images.usage().usedBytes > 0n) await sleep(5); // what is being deleted counts until it is gone
  });

  it('is undone by untag with the last tag', async () => {
    await pushImage(registry, 'box', 'a', busyboxImage());
    await pushImage(registry, 'box', 'b', busyboxImage());
    const { id } = await pull('box:a');
    await pull('box:b');
    await images.untag(`${registry.host}/box:a`);
    assert.deepEqual(images.find(id)?.tags, [`${registry.host}/box:b`]);
    await images.untag(`${registry.host}/box:b`);
    assert.equal(images.find(id), undefined);
    await assert.rejects(images.untag(`${registry.host}/box:b`), { kind: 'not_found' });
  });

  it('unpacks a layer on its chain when directories are only implied, or links lead below', async () => {
    const image = buildImage({
      layers: [
        [
          { ...dir('opt'), mode: 0o700, uid: 7, gid: 8, mtime: 1_500_000_000 },
          { path: 'opt/tool', data: 'tool', mode: 0o4755, uid: 7 },
        ],
        [{ path: 'opt/implied', data: 'x' }],
        [dir('bin'), { path: 'bin/tool', type: 'hardlink', link: 'opt/tool' }],
      ],
    });
    await pushImage(registry, 'chain', '1', image);
    const pulled = await pull('chain:1');
    const [base, implied, linked] = pulled.layers;
    assert.ok(base && implied && linked);
    assert.match(base.key, /^sha256-/);
    assert.match(implied.key, /^chain-sha256-/);
    assert.match(linked.key, /^chain-sha256-/);
    const opt = lstatSync(join(implied.dir, 'opt'));
    assert.deepEqual([opt.mode & 0o7777, opt.uid, opt.gid, opt.mtimeMs], [0o700, 7, 8, 1_500_000_000_000]);
    const copied = lstatSync(join(linked.dir, 'opt/tool'));
    assert.deepEqual([copied.mode & 0o7777, copied.uid, copied.nlink], [0o4755, 7, 2]);
    assert.equal(copied.ino, lstatSync(join(linked.dir, 'bin/tool')).ino);
    assert.equal(readFileSync(join(linked.dir, 'bin/tool'), 'utf8'), 'tool');
    assert.deepEqual((await pull('chain:1')).layers, pulled.layers);
  });

  it('cleans up what a dead process left', async () => {
    await pushImage(registry, 'box', '1', busyboxImage());
    const { digest: _, ...image } = await pull('box:1');
    await close();
    const { mkdirSync, writeFileSync } = await import('node:fs');
    mkdirSync(join(root, 'images/layers/tmp-0123/fs/a'), { recursive: true });
    mkdirSync(join(root, `images/layers/sha256-${'0'.repeat(64)}/fs`), { recursive: true });
    writeFileSync(join(root, 'images/content/ingest/half'), 'x');
    await open();
    assert.deepEqual(images.list(), [image]);
    await images.close();
    assert.equal(layerDirs().length, 2);
  });

  describe('with a password', () => {
    let locked: Registry;
    before(async () => {
      locked = await startRegistry({ htpasswd: { username: 'user', password: 'canary-secret' } });
      await pushImage(locked, 'box', '1', busyboxImage());
    });
    after(() => locked.stop());

    it('is let in with it, in both forms', async () => {
      const name = `${locked.host}/box:1`;
      assert.ok(await images.pull(ctx(), name, { auth: { username: 'user', password: 'canary-secret' } }));
      assert.ok(
        await images.pull(ctx(), name, {
          auth: { auth: Buffer.from('user:canary-secret').toString('base64'), serverAddress: `http://${locked.host}` },
        }),
      );
    });

    it('is refused without, with a wrong one and with one for another host, and never prints it', async () => {
      const name = `${locked.host}/box:1`;
      const cases: [PullOptions, RegExp][] = [
        [{}, /answered 401 \(authentication required\); no credentials were given/],
        [{ auth: { username: 'user', password: 'wrong-canary-secret' } }, /check the credentials that were given/],
        [
          { auth: { username: 'user', password: 'canary-secret', serverAddress: 'registry.example' } },
          /are for another host than 127/,
        ],
      ];
      for (const [options, message] of cases)
        await assert.rejects(images.pull(ctx(), name, options), (error: Error & { kind?: string }) => {
          assert.equal(error.kind, 'unauthenticated');
          assert.match(error.message, message);
          assert.doesNotMatch(error.message, /canary/);
          return true;
        });
    });
  });
});
