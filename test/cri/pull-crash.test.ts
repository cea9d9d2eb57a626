import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CriClient } from '../support/cri-client';
import { TestDaemon } from '../support/daemon';
import { buildImage } from '../support/image-builder';

/** Where a pull is when its daemon is killed: what the registry sends of it, and what is on the disk by then. */
interface CrashPoint {
  readonly name: string;
  /** So many bytes of the answers are sent; what is not named comes whole. */
  readonly sends: { manifest?: number; config?: number; first?: number; second?: number };
  readonly reached: (at: { partial: number; layers: number; blobs: number }) => boolean;
}

const image = buildImage({
  layers: [
    [{ path: 'bulk', data: randomBytes(3 * 1024 * 1024) }],
    [{ path: 'second', data: randomBytes(2 * 1024 * 1024) }],
  ],
});
const length = image.layers[0]?.bytes.length ?? 0;

const points: readonly CrashPoint[] = [
  { name: 'before the manifest has come', sends: { manifest: 10 }, reached: () => true },
  { name: 'after the manifest', sends: { config: 10 }, reached: () => true },
  { name: 'after the documents are kept', sends: { first: 0, second: 0 }, reached: ({ blobs }) => blobs === 2 },
  {
    name: 'in the middle of a blob',
    sends: { first: 2 * 1024 * 1024 },
    reached: ({ partial, layers }) => partial > 1024 * 1024 && layers === 1,
  },
  {
    name: 'when a blob is here but for its last byte',
    sends: { first: length - 1 },
    reached: ({ partial }) => partial >= length - 1,
  },
  { name: 'when one layer has its name', sends: { first: 0 }, reached: ({ layers }) => layers === 1 },
  { name: 'when all layers have their names', sends: {}, reached: ({ layers }) => layers === 2 },
  { name: 'at any time after that', sends: {}, reached: ({ layers, partial }) => layers === 2 && partial === 0 },
];

describe('a pull whose daemon is killed', function () {
  this.timeout(60_000);
  let daemon: TestDaemon;
  let server: Server;
  let host: string;
  let point: CrashPoint | undefined;
  let asked: Set<string>;

  before(async () => {
    const parts = new Map([image.config, ...image.layers].map(blob => [blob.digest, blob]));
    const names = new Map([
      [image.config.digest, 'config'],
      [image.layers[0]?.digest, 'first'],
      [image.layers[1]?.digest, 'second'],
    ]);
    server = createServer((request, response) => {
      const name = request.url?.split('/').pop() ?? '';
      const { bytes, mediaType } = parts.get(name) ?? image.manifest;
      const part = (names.get(name) ?? 'manifest') as keyof CrashPoint['sends'];
      asked.add(part);
      const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(from > 0 ? 206 : 200, {
        'content-type': mediaType,
        'content-length': bytes.length - from,
        ...(from > 0 ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
      });
      const sent = point?.sends[part];
      if (sent === undefined) response.end(bytes.subarray(from));
      else if (sent > from) response.write(bytes.subarray(from, sent));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    host = typeof address === 'object' && address ? `127.0.0.1:${address.port}` : '';
    daemon = await TestDaemon.start();
  });
  after(async () => {
    await daemon.destroy();
    server.closeAllConnections();
    server.close();
  });

  const below = (...path: string[]) => {
    const dir = join(daemon.root, ...path);
    return existsSync(dir) ? readdirSync(dir) : [];
  };
  const layerNames = () => below('layers').filter(name => name !== 'empty');
  const partialBytes = () =>
    // A file may go between the two calls: the pull goes on while it is looked at.
    below('content/partial').reduce(
      (sum, name) => sum + (statSync(join(daemon.root, 'content/partial', name), { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
  const state = () => ({
    partial: partialBytes(),
    layers: layerNames().filter(name => name.startsWith('sha256-')).length,
    blobs: below('content/blobs/sha256').length,
  });
  const held = (at: CrashPoint) => Object.keys(at.sends).every(part => asked.has(part));

  for (const at of points)
    it(`${at.name} is done again, right, and leaves nothing`, async () => {
      [point, asked] = [at, new Set()];
      const name = `${host}/app:1`;
      const client = new CriClient(daemon.socket);
      const pulling = client.call('PullImage', { image: { image: name } });
      let ended = false;
      pulling.then(
        () => (ended = true),
        () => (ended = true),
      );
      while (!ended && !(held(at) && at.reached(state()))) await sleep(1);
      await daemon.kill();
      await pulling.catch(() => undefined);
      client.close();

      point = undefined;
      server.closeAllConnections();
      await daemon.run();
      using again = new CriClient(daemon.socket);
      const { imageRef } = await again.call('PullImage', { image: { image: name } });
      assert.equal(imageRef, image.id);
      const { images } = await again.call('ListImages');
      assert.deepEqual(
        images.map(({ id }) => id),
        [image.id],
      );
      while (layerNames().some(found => found.startsWith('trash-'))) await sleep(5);
      assert.deepEqual(
        layerNames().map(found => found.slice(0, 7)),
        ['sha256-', 'sha256-'],
      );
      assert.deepEqual(below('content/partial'), []);
      assert.deepEqual(below('content/ingest'), []);
      assert.equal(below('content/blobs/sha256').length, 2);

      await again.call('RemoveImage', { image: { image: name } });
      await again.call('RemoveImage', { image: { image: name } });
      while (layerNames().length > 0) await sleep(5);
      assert.deepEqual([below('content/partial'), below('content/blobs/sha256')], [[], []]);
    });
});
