import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { crashPoints, type CrashPoint } from '../../src/base/crash-points';
import { CriClient } from '../support/cri-client';
import { TestDaemon } from '../support/daemon';
import { buildImage } from '../support/image-builder';
import { pushImage, startRegistry, type Registry } from '../support/registry';

/** One of its layers has a file of its own while it comes, the other is too small for one. */
const image = buildImage({
  layers: [[{ path: 'bulk', data: randomBytes(1024 * 1024) }], [{ path: 'second', data: 'second' }]],
});

describe('a daemon that dies during a pull', function () {
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

  const below = (...path: string[]) => {
    const dir = join(daemon.root, ...path);
    return existsSync(dir) ? readdirSync(dir) : [];
  };
  const layerNames = () => below('layers').filter(found => found !== 'empty');
  const untilSwept = async () => {
    while (layerNames().some(found => !found.startsWith('sha256-'))) await sleep(5);
  };

  const dieAt = async (point: string, work: (client: CriClient) => Promise<unknown>) => {
    await daemon.run([], { BERTH_CRASH_AT: point });
    using client = new CriClient(daemon.socket);
    await work(client).catch(() => undefined);
    assert.equal(await daemon.ended(), 'SIGKILL');
  };

  const ofPulls = crashPoints.filter(point => /^(pull|content|layer)\./.test(point));
  const twice = ofPulls.filter(point => /^(content|layer)\./.test(point) && point !== 'layer.kept');
  const points: (CrashPoint | `${CrashPoint}#2`)[] = [...ofPulls, ...twice.map(point => `${point}#2` as const)];
  for (const point of points)
    it(`at ${point} pulls the image when it is asked again, and leaves nothing`, async () => {
      await dieAt(point, client => client.call('PullImage', { image: { image: name } }));
      await daemon.run();
      using client = new CriClient(daemon.socket);
      const { imageRef } = await client.call('PullImage', { image: { image: name } });
      assert.equal(imageRef, image.id);
      const { images } = await client.call('ListImages');
      assert.deepEqual(
        images.map(({ id, repoTags }) => ({ id, repoTags })),
        [{ id: image.id, repoTags: [name] }],
      );
      await untilSwept();
      assert.equal(layerNames().length, 2);
      assert.deepEqual([below('content/partial'), below('content/ingest')], [[], []]);
      assert.equal(below('content/blobs/sha256').length, 2);

      await client.call('RemoveImage', { image: { image: name } });
      while (layerNames().length > 0) await sleep(5);
      assert.deepEqual([below('content/partial'), below('content/blobs/sha256')], [[], []]);
      await daemon.stop();
    });
});
