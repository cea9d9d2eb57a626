import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLogger } from '../../src/base/log';
import { nodePlatform } from '../../src/image/platform';
import type { Versioned } from '../../src/store/store';
import { openStore } from '../../src/store/store';
import { berth } from '../cli/berth';
import { CriClient } from '../support/cri-client';
import { TestDaemon } from '../support/daemon';
import { startGatedRegistry } from '../support/gated-registry';
import { buildImage, busyboxImage, descriptor, document, type Blob, type BuiltImage } from '../support/image-builder';
import { refused, useNode } from '../support/node';
import { pushImage, startRegistry } from '../support/registry';

const pull = (client: CriClient, image: string, more: object = {}) =>
  client.call('PullImage', { image: { image, ...more } });
const hex = (text: string) => createHash('sha256').update(text).digest('hex');

/** Records as a daemon of before has left them; it must not run. */
async function leave(daemon: TestDaemon, tables: Record<string, Record<string, Versioned>>): Promise<void> {
  const store = openStore(join(daemon.root, 'db'), silentLogger);
  for (const [name, records] of Object.entries(tables))
    for (const [key, record] of Object.entries(records)) await store.table(name, record.version).put(key, record);
  await store.close();
}

const emptyConfig = {
  ...nodePlatform(),
  env: [],
  entrypoint: [],
  cmd: [],
  workingDir: '',
  user: '',
  labels: {},
  stopSignal: '',
  exposedPorts: [],
  volumes: [],
};

describe('a daemon with records of images', function () {
  this.timeout(60_000);

  it('streams each image once, in several messages, and then ends', async () => {
    await using daemon = await TestDaemon.prepare();
    const ids = Array.from({ length: 600 }, (_, i) => `sha256:${hex(`${i}`)}`);
    const record = (id: string, i: number) => ({
      ...{ version: 2, id, tags: [`registry.example/app:${i}`], digests: [], config: emptyConfig },
      ...{ runtimeHandler: '', layerKeys: [], content: [], pinned: false },
    });
    await leave(daemon, { images: Object.fromEntries(ids.map((id, i) => [id, record(id, i)])) });
    await daemon.run();
    using client = new CriClient(daemon.socket);
    const messages = (await client.allOf('StreamImages', {})) as { images: { id: string }[] }[];
    assert.ok(messages.length > 1);
    assert.ok(messages.every(({ images }) => images.length > 0));
    const streamed = messages.flatMap(({ images }) => images.map(({ id }) => id));
    assert.deepEqual(streamed.sort(), [...ids].sort());
    const { images } = await client.call('ListImages');
    assert.deepEqual(images.map(({ id }) => id).sort(), [...ids].sort());

    const filter = { image: { image: 'registry.example/app:7' } };
    const one = (await client.allOf('StreamImages', { filter })) as { images: { id: string }[] }[];
    assert.deepEqual(
      one.map(({ images: found }) => found.map(({ id }) => id)),
      [[ids[7]]],
    );
    const none = await client.allOf('StreamImages', { filter: { image: { image: 'registry.example/other:1' } } });
    assert.deepEqual(none, []);
  });

  it('knows those that an older version wrote, and runs on', async () => {
    await using daemon = await TestDaemon.prepare();
    const [id, diffId] = [`sha256:${hex('config')}`, `sha256:${hex('layer')}`];
    const key = diffId.replace(':', '-');
    mkdirSync(join(daemon.root, 'layers', key, 'fs'), { recursive: true });
    writeFileSync(join(daemon.root, 'layers', key, 'fs/file'), 'old');
    const tags = ['registry.example/old:1'];
    await leave(daemon, {
      images: {
        [id]: {
          ...{ version: 1, id, tags, digests: [], config: emptyConfig },
          ...({ layerKeys: [key], content: [], pinned: true } as object),
        },
      },
      layers: { [key]: { version: 1, ...({ key, diffId, diskBytes: 8192, inodes: 2, opaqueRoot: false } as object) } },
    });
    await daemon.run();
    using client = new CriClient(daemon.socket);
    const { images } = await client.call('ListImages');
    assert.deepEqual(
      images.map(({ id: found, repoTags, spec }) => ({ found, repoTags, handler: spec?.runtimeHandler })),
      [{ found: id, repoTags: tags, handler: '' }],
    );
    const { info } = await client.call('ImageStatus', { image: { image: id }, verbose: true });
    const { layers } = JSON.parse(info['info'] ?? '{}') as { layers: { key: string; state: string }[] };
    assert.deepEqual(
      layers.map(layer => layer.key),
      [key],
    );
    await client.call('RemoveImage', { image: { image: id } });
    while (readdirSync(join(daemon.root, 'layers')).some(name => name !== 'empty')) await sleep(5);
    assert.deepEqual((await client.call('ListImages')).images, []);
  });
});

describe('images of a kubelet', function () {
  this.timeout(60_000);
  const node = useNode();

  it('are pulled by a tag, a digest, and both', async () => {
    const { client, registry } = node();
    const built = busyboxImage({ extraLayers: [[{ path: 'by-digest', data: 'x' }]] });
    await pushImage(registry, 'exact', '1', built);
    const repository = `${registry.host}/exact`;
    const byDigest = `${repository}@${built.manifest.digest}`;
    assert.equal((await pull(client, byDigest)).imageRef, built.id);
    const found = async (name: string) => (await client.call('ImageStatus', { image: { image: name } })).image;
    assert.deepEqual((await found(byDigest))?.repoTags, []);
    assert.deepEqual((await found(byDigest))?.repoDigests, [byDigest]);
    const both = `${repository}:1@${built.manifest.digest}`;
    assert.equal((await pull(client, both)).imageRef, built.id);
    assert.equal((await found(both))?.id, built.id);
    await refused(pull(client, `${repository}:1@sha256:${hex('another')}`), 'NOT_FOUND');
    assert.equal((await pull(client, `${repository}:1`)).imageRef, built.id);
    assert.deepEqual((await found(built.id))?.repoTags, [`${repository}:1`]);
    await client.call('RemoveImage', { image: { image: byDigest } });
    assert.equal(await found(`${repository}:1`), null);
  });

  it('may be named by sha512, all of them', async () => {
    const { client } = node();
    const strong = ofSha512(buildImage({ layers: [[{ path: 'strong', data: 'sha512' }]] }));
    await using registry = await startGatedRegistry(strong);
    registry.open();
    const name = `${registry.host}/strong@${sha512(strong.manifest.bytes)}`;
    const { imageRef } = await pull(client, name);
    assert.equal(imageRef, strong.id);
    assert.equal((await client.call('ImageStatus', { image: { image: name } })).image?.id, strong.id);
    await refused(pull(client, `${registry.host}/strong@sha512:${'0'.repeat(128)}`), 'DATA_LOSS', /has digest sha512:/);
    await client.call('RemoveImage', { image: { image: strong.id } });
    assert.equal((await client.call('ImageStatus', { image: { image: strong.id } })).image, null);
  });

  it('keep the runtime handler that they were pulled for', async () => {
    const { client, registry } = node();
    await pushImage(registry, 'handled', '1', buildImage({ layers: [[{ path: 'handled', data: 'x' }]] }));
    const name = node().image('handled');
    const { imageRef } = await pull(client, name, { runtimeHandler: 'other' });
    const handler = async () =>
      (await client.call('ListImages')).images.find(({ id }) => id === imageRef)?.spec?.runtimeHandler;
    assert.equal(await handler(), 'other');
    await node().restart();
    using again = new CriClient(node().daemon.socket);
    const { images } = await again.call('ListImages');
    assert.equal(images.find(({ id }) => id === imageRef)?.spec?.runtimeHandler, 'other');
  });

  it('take as much of the disk as ImageFsInfo says', async () => {
    const { client, registry, daemon } = node();
    const files = Array.from({ length: 300 }, (_, i) => ({ path: `many/${i}`, data: randomBytes((i * 97) % 9000) }));
    const built = buildImage({
      layers: [
        [{ path: 'many', type: 'dir' }, ...files, { path: 'big', data: randomBytes(5_000_000) }],
        [
          { path: 'link', type: 'symlink', link: 'big' },
          { path: 'again', data: 'x' },
          { path: 'empty', data: '' },
        ],
      ],
    });
    await pushImage(registry, 'measured', '1', built);
    await pull(client, node().image('measured'));
    const places = ['layers', 'content/blobs'].map(place => join(daemon.root, place));
    const du = (...flags: string[]) =>
      execFileSync('du', ['-s', '-c', ...flags, ...places], { encoding: 'utf8' }).match(/^(\d+)\ttotal$/m)?.[1];
    const [{ usedBytes, inodesUsed } = { usedBytes: { value: '' }, inodesUsed: { value: '' } }] = (
      await client.call('ImageFsInfo')
    ).imageFilesystems;
    const near = (told: string, real: string | undefined, slack: number) =>
      assert.ok(Math.abs(Number(told) - Number(real)) <= Number(real) * 0.02 + slack, `${told} told, ${real} found`);
    // Manifests, facts and the directories round them are not counted.
    near(usedBytes.value, du('--block-size=1'), 256 * 1024);
    near(inodesUsed.value, du('--inodes'), 40);
  });

  it('leave the disk with the last container that stands on them', async () => {
    const { client, daemon } = node();
    const layers = () => readdirSync(join(daemon.root, 'layers')).filter(name => name.startsWith('sha256-'));
    const before = layers().length;
    const mark = { path: 'mark', data: `here ${randomBytes(8).toString('hex')}` };
    const name = await node().pull('standing', busyboxImage({ extraLayers: [[mark]] }));
    const pod = await node().pod();
    const id = await node().start(pod, { image: name });
    assert.equal(layers().length, before + 1);
    await client.call('RemoveImage', { image: { image: name } });
    assert.equal((await client.call('ImageStatus', { image: { image: name } })).image, null);
    assert.equal(await node().exec(id, ['cat', '/mark']), mark.data);
    assert.equal(layers().length, before + 1);
    await refused(node().create(pod, { image: name }), 'NOT_FOUND', /pull it first/);
    await client.call('StopContainer', { containerId: id, timeout: 0 });
    assert.equal(layers().length, before + 1, 'a container that has ended still stands on its layers');
    await client.call('RemoveContainer', { containerId: id });
    while (layers().length > before) await sleep(5);
  });
});

describe('while an image is pulled', function () {
  this.timeout(120_000);

  it('the daemon answers, however long it takes', async () => {
    const files = Array.from({ length: 3000 }, (_, i) => ({ path: `file-${i}`, data: randomBytes(4096) }));
    const big = buildImage({ layers: [[...files, { path: 'bulk', data: randomBytes(16 << 20) }]], compress: false });
    await using registry = await startGatedRegistry(big);
    await using daemon = await TestDaemon.start();
    using client = new CriClient(daemon.socket);
    let isPulled = false;
    const pulling = pull(client, `${registry.host}/big:1`).finally(() => (isPulled = true));
    pulling.catch(() => undefined);
    const isUnpacking = () => readdirSync(join(daemon.root, 'layers')).some(name => name.startsWith('tmp-'));
    while (!isPulled && !isUnpacking()) await sleep(5);
    for (let i = 0; i < 100; i++) await client.call('Version');
    assert.ok(!isPulled && isUnpacking(), 'half of the layer is here');
    registry.open();
    let answers = 0;
    for (; !isPulled; answers++) await client.call('Version');
    assert.equal((await pulling).imageRef, big.id);
    assert.ok(answers > 0, 'from the second half of the layer to the end');
  });
});

describe('credentials', function () {
  this.timeout(60_000);
  const canary = `canary${randomBytes(12).toString('hex')}`;

  it('are nowhere but in the requests to their registry', async () => {
    const registry = await startRegistry({ htpasswd: { username: 'user', password: canary } });
    const daemon = await TestDaemon.start();
    try {
      await pushImage(registry, 'box', '1', buildImage({ layers: [[{ path: 'a', data: 'x' }]] }));
      using client = new CriClient(daemon.socket);
      const name = `${registry.host}/box:1`;
      const encoded = (text: string) => Buffer.from(text).toString('base64');
      const said: string[] = [];
      const attempt = async (image: string, auth: object) => {
        try {
          said.push(JSON.stringify(await client.call('PullImage', { image: { image }, auth })));
        } catch (error) {
          said.push(error instanceof Error ? `${error.message} ${JSON.stringify(error)}` : '');
        }
      };
      await attempt(name, { username: 'user', password: canary });
      await attempt(name, { auth: encoded(`user:${canary}`), serverAddress: `http://${registry.host}` });
      assert.ok(said.every(text => text.includes('imageRef')));
      for (const auth of [
        { username: 'user', password: `${canary}-wrong` },
        { auth: encoded(`other:${canary}`) },
        { auth: `not base 64 ${canary}` },
        { identityToken: canary },
        { registryToken: canary },
        { username: 'user', password: canary, serverAddress: 'other.example' },
      ])
        await attempt(name, auth);
      await attempt(`${registry.host}/nosuch:1`, { username: 'user', password: canary });
      await attempt(`http://user:${canary}@${registry.host}/box:1`, {});
      await attempt(`${registry.host}/box:1?token=${canary}`, {});
      for (const args of [
        ['pulls'],
        ['pulls', '--format', 'json'],
        ['inspect', name],
        ['images', '--format', 'json'],
        ['registry', 'explain', name],
      ]) {
        const { stdout, stderr } = await berth(daemon.berthSocket, args);
        said.push(stdout, stderr);
      }
      const secrets = [canary, encoded(`user:${canary}`), encoded(canary), encoded(`other:${canary}`)];
      for (const secret of secrets) {
        for (const text of [...said, daemon.log]) assert.ok(!text.includes(secret), text);
        const { status, stdout } = spawnSync('grep', ['-r', '-l', '-a', '-F', secret, daemon.root, daemon.state]);
        assert.equal(status, 1, stdout.toString());
      }
    } finally {
      await daemon.destroy();
      await registry.stop();
    }
  });
});

function sha512(bytes: Buffer): string {
  return `sha512:${createHash('sha512').update(bytes).digest('hex')}`;
}

/** The same image, all of whose parts are named by sha512. */
function ofSha512(image: BuiltImage): BuiltImage {
  const renamed = (blob: Blob): Blob => ({ ...blob, digest: sha512(blob.bytes) });
  const layers = image.layers.map(renamed);
  const config = renamed(image.config);
  const { mediaType } = image.manifest;
  const body = { schemaVersion: 2, mediaType, config: descriptor(config), layers: layers.map(descriptor) };
  return { config, layers, manifest: renamed(document(mediaType, body)), id: config.digest };
}
