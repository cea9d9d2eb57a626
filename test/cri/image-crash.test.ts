import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { crashPoints, type CrashPoint } from '../../src/base/crash-points';
import { berth, type Ended } from '../cli/berth';
import { dockerArchive } from '../support/archives';
import { CriClient } from '../support/cri-client';
import { TestDaemon } from '../support/daemon';
import { startGatedRegistry } from '../support/gated-registry';
import { buildImage, tar } from '../support/image-builder';
import { parentOf } from '../support/leaks';
import { allPids, commandLine } from '../support/processes';
import { pushImage, startRegistry, type Registry } from '../support/registry';

const bulk = randomBytes(1024 * 1024);
/** One of its layers has a file of its own while it comes, the other is too small for one. */
const layers = [[{ path: 'bulk', data: bulk }], [{ path: 'second', data: 'second' }]];
const image = buildImage({ layers });
type Point = CrashPoint | `${CrashPoint}#2`;

describe('a daemon that dies', function () {
  this.timeout(60_000);
  let daemon: TestDaemon;
  let registry: Registry;
  let name: string;

  before(async () => {
    registry = await startRegistry();
    await pushImage(registry, 'app', '1', image);
    name = `${registry.host}/app:1`;
    daemon = await TestDaemon.prepare();
  });
  after(async () => {
    await daemon.destroy();
    await registry.stop();
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') await daemon.kill();
  });

  const below = (...path: string[]) => {
    const dir = join(daemon.root, ...path);
    return existsSync(dir) ? readdirSync(dir) : [];
  };
  const layerNames = () => below('layers').filter(found => found !== 'empty');
  const untilSwept = async () => {
    while (layerNames().some(found => !found.startsWith('sha256-'))) await sleep(5);
  };
  const run = (...args: string[]): Promise<Ended> => berth(daemon.berthSocket, args);
  const dieAt = async (point: Point, work: (client: CriClient) => Promise<unknown>) => {
    await daemon.run([], { BERTH_CRASH_AT: point }).catch(() => undefined); // a repair may begin before it is ready
    using client = new CriClient(daemon.socket);
    await work(client).catch(() => undefined);
    assert.equal(await daemon.ended(), 'SIGKILL');
  };
  const pull = (client: CriClient) => client.call('PullImage', { image: { image: name } });
  const begun = async (work: (client: CriClient) => Promise<unknown>) => {
    await daemon.run();
    using client = new CriClient(daemon.socket);
    await work(client);
  };

  /** The image is here as it should be, and nothing else is. */
  /** Manifest and config are kept, and of what comes in an archive the layers as they came. */
  const assertWhole = async (client: CriClient, tags: string[], blobs = 2) => {
    const { images } = await client.call('ListImages');
    assert.deepEqual(
      images.map(({ id, repoTags }) => ({ id, repoTags })),
      [{ id: image.id, repoTags: tags }],
    );
    await untilSwept();
    const dirs = layerNames().map(found => join(daemon.root, 'layers', found, 'fs'));
    const files = new Map(dirs.flatMap(dir => readdirSync(dir).map(file => [file, readFileSync(join(dir, file))])));
    assert.deepEqual([...files.keys()].sort(), ['bulk', 'second']);
    assert.ok(files.get('bulk')?.equals(bulk));
    assert.deepEqual([below('content/partial'), below('content/ingest'), below('incoming')], [[], [], []]);
    assert.equal(below('content/blobs/sha256').length, blobs);
    const check = await run('check');
    assert.equal(check.code, 0, check.stdout);
  };
  const assertNothing = async () => {
    while (layerNames().length > 0) await sleep(5);
    const left = ['content/partial', 'content/ingest', 'content/blobs/sha256', 'incoming'].flatMap(dir => below(dir));
    assert.deepEqual(left, []);
    const check = await run('check');
    assert.match(check.stdout, /^0 layers and 0 blobs.*all is sound/);
  };

  const of = (pattern: RegExp) => crashPoints.filter(point => pattern.test(point));
  const twice = (points: readonly CrashPoint[]): Point[] => points.flatMap(point => [point, `${point}#2` as const]);

  for (const point of [
    ...of(/^pull\./),
    ...twice(of(/^(content|layer)\./).filter(point => point !== 'layer.kept')),
    'layer.kept' as const,
  ])
    it(`in a pull at ${point} pulls the image when it is asked again, and leaves nothing`, async () => {
      await dieAt(point, pull);
      await daemon.run();
      using client = new CriClient(daemon.socket);
      assert.equal((await pull(client)).imageRef, image.id);
      await assertWhole(client, [name]);
      await client.call('RemoveImage', { image: { image: name } });
      await assertNothing();
      await daemon.stop();
    });

  for (const point of [...of(/^remove\./), 'remove.layer-renamed#2', 'remove.deleted#2'] as const)
    it(`in a removal at ${point} removes the image when it is asked again, and leaves nothing`, async () => {
      await begun(pull);
      await daemon.stop();
      await dieAt(point, client => client.call('RemoveImage', { image: { image: name } }));
      await daemon.run();
      using client = new CriClient(daemon.socket);
      await client.call('RemoveImage', { image: { image: name } });
      assert.deepEqual((await client.call('ListImages')).images, []);
      await assertNothing();
      await daemon.stop();
    });

  /** As if the power had failed, and taken a file with it. */
  const damage = () => {
    for (const layer of layerNames()) {
      const file = join(daemon.root, 'layers', layer, 'fs/bulk');
      if (existsSync(file)) appendFileSync(file, 'damage');
    }
    writeFileSync(join(daemon.root, 'boot'), 'another-boot running\n');
  };

  for (const point of of(/^heal\./))
    it(`in a repair at ${point} keeps the image, and repairs it the next time`, async () => {
      await begun(pull);
      await daemon.stop();
      damage();
      await dieAt(point, () => Promise.resolve());
      await daemon.run();
      using client = new CriClient(daemon.socket);
      assert.equal((await client.call('ListImages')).images.length, 1);
      assert.equal((await pull(client)).imageRef, image.id);
      await assertWhole(client, [name]);
      await client.call('RemoveImage', { image: { image: name } });
      await assertNothing();
      await daemon.stop();
    });

  for (const point of [...of(/^load\./), 'layer.renamed', 'pull.recorded'] as const)
    it(`in a load at ${point} loads the archive when it is asked again, and leaves nothing`, async () => {
      const file = join(daemon.dir, 'archive');
      writeFileSync(
        file,
        dockerArchive(
          image,
          layers.map(layer => tar(layer)),
          ['localhost/app:1'],
        ),
      );
      await dieAt(point, () => run('load', '-q', '-i', file));
      // Layers are unpacked side by side: the end of the daemon at one may meet the other with its name, too.
      const named = layerNames().filter(found => found.startsWith('sha256-')).length;
      await daemon.run();
      const loaded = await run('load', '-q', '-i', file);
      assert.equal(loaded.code, 0, loaded.stderr);
      using client = new CriClient(daemon.socket);
      // A layer that has its name is not taken from the archive again, and so its blob is not kept, either.
      const unkept = point === 'layer.renamed' ? named : 0;
      await assertWhole(client, ['localhost/app:1'], 2 + layers.length - unkept);
      await client.call('RemoveImage', { image: { image: 'localhost/app:1' } });
      await assertNothing();
      await daemon.stop();
    });

  for (const point of of(/^import\./))
    it(`in an import at ${point} imports the tar when it is asked again, and leaves nothing`, async () => {
      const file = join(daemon.dir, 'tar');
      writeFileSync(file, tar([{ path: 'bulk', data: bulk }]));
      await dieAt(point, () => run('image', 'import', file, 'localhost/fs:1'));
      await daemon.run();
      const imported = await run('image', 'import', file, 'localhost/fs:1');
      assert.equal(imported.code, 0, imported.stderr);
      assert.equal((await run('check')).code, 0);
      assert.deepEqual(
        [layerNames().length, below('content/blobs/sha256').length, below('incoming').length],
        [1, 3, 0],
      );
      using client = new CriClient(daemon.socket);
      await client.call('RemoveImage', { image: { image: 'localhost/fs:1' } });
      await assertNothing();
      await daemon.stop();
    });
});

describe('an unpacking process that is killed', function () {
  this.timeout(60_000);

  it('fails its pull with a sentence, leaves nothing, and the next pull is right', async () => {
    const random = buildImage({
      layers: [
        [
          { path: 'bulk', data: bulk },
          { path: 'more', data: randomBytes(3_000_000) },
        ],
      ],
    });
    await using registry = await startGatedRegistry(random);
    await using daemon = await TestDaemon.start();
    using client = new CriClient(daemon.socket);
    const reference = { image: { image: `${registry.host}/app:1` } };
    const pulling = client.call('PullImage', reference).then(
      () => 'it was pulled',
      (error: Error) => error.message,
    );
    const bytes = () => readdirSync(join(daemon.root, 'layers')).filter(found => found.startsWith('tmp-'));
    while (!bytes().some(tmp => existsSync(join(daemon.root, 'layers', tmp, 'fs/bulk')))) await sleep(5);
    const [pid] = allPids().filter(one => parentOf(one) === daemon.pid && commandLine(one)[0] === 'berth-unpack');
    assert.ok(pid);
    process.kill(pid, 'SIGKILL');
    assert.match(await pulling, /layer sha256:[0-9a-f]{64}: unpacking ended/);
    assert.deepEqual(bytes(), []);
    registry.open();
    assert.equal((await client.call('PullImage', reference)).imageRef, random.id);
    const left = ['content/partial', 'content/ingest'].flatMap(dir => readdirSync(join(daemon.root, dir)));
    assert.deepEqual(left, []);
  });
});
