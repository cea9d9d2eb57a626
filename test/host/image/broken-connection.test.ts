import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import { openImages, type Images } from '../../../src/image/images';
import { openStore, type Store } from '../../../src/store/store';
import { busyboxImage } from '../../support/image-builder';

/** Children of this process that run berth-unpack. */
function unpackers(): string[] {
  return readdirSync('/proc')
    .filter(pid => /^\d+$/.test(pid))
    .filter(pid => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        return stat.includes('(berth-unpack)') && stat.split(') ')[1]?.split(' ')[1] === String(process.pid);
      } catch {
        return false;
      }
    });
}

describe('a pull over a broken connection', function () {
  this.timeout(30_000);
  const image = busyboxImage();
  let root: string;
  let store: Store;
  let images: Images;
  let server: Server;
  let host: string;
  let cuts: number;
  let hold: boolean;
  let shortened: boolean;

  beforeEach(async () => {
    [cuts, hold, shortened] = [0, false, false];
    const blobs = new Map([image.manifest, image.config, ...image.layers].map(blob => [blob.digest, blob]));
    const big = image.layers[0]?.digest;
    server = createServer((request, response) => {
      const name = request.url?.split('/').pop() ?? '';
      const { bytes, mediaType } = blobs.get(name) ?? image.manifest;
      const half = bytes.subarray(0, bytes.length / 2);
      const length = name === big && shortened ? half.length : bytes.length;
      response.writeHead(200, { 'content-type': mediaType, 'content-length': length });
      if (name !== big || (cuts === 0 && !hold && !shortened)) response.end(bytes);
      else if (shortened) response.end(half);
      else response.write(half, () => void (hold || (cuts--, response.destroy())));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    assert.ok(address !== null && typeof address !== 'string');
    host = `127.0.0.1:${address.port}`;
    root = mkdtempSync(join(tmpdir(), 'berth-broken-'));
    store = openStore(join(root, 'store'), silentLogger);
    images = await openImages({ root: join(root, 'images'), store, log: silentLogger, layersInUse: () => [] });
  });
  afterEach(async () => {
    await images.collect();
    await images.close();
    await store.close();
    server.closeAllConnections();
    server.close();
    const left = readdirSync(join(root, 'images/layers')).filter(name => /^(tmp|trash)-/.test(name));
    rmSync(root, { recursive: true, force: true });
    assert.deepEqual([left, unpackers()], [[], []]);
  });
  const pull = (signal?: AbortSignal) =>
    images.pull(Context.of(silentLogger, signal ? { signal } : {}), `${host}/box:1`);

  it('begins the layer anew, and comes to its end', async () => {
    cuts = 2;
    assert.equal((await pull()).id, image.id);
  });

  it('gives up by a sentence', async () => {
    cuts = 100;
    await assert.rejects(pull(), {
      kind: 'unavailable',
      message:
        /^pull .*\/box:1: layer sha256:[0-9a-f]{64}: the connection broke 3 times: .*; check the node's network$/,
    });
    assert.deepEqual(images.list(), []);
  });

  it('says so when the registry sends less than it announced', async () => {
    shortened = true;
    await assert.rejects(pull(), { kind: 'data_loss', message: /: \d+ bytes came, and \d+ were announced/ });
  });

  it('ends with its caller, and its unpacking with it', async () => {
    hold = true;
    const caller = new AbortController();
    const pulling = pull(caller.signal);
    while (unpackers().length === 0) await new Promise(resolve => setTimeout(resolve, 5));
    caller.abort();
    await assert.rejects(pulling, { kind: 'cancelled', message: /the caller went away during: pull 127/ });
  });

  it('leaves no socket behind', async () => {
    const sockets = new Set<Socket>();
    server.on('connection', socket => sockets.add(socket));
    cuts = 1;
    await pull();
    await images.close();
    assert.ok(sockets.size > 0);
    for (const socket of sockets) if (!socket.closed) await new Promise(resolve => socket.once('close', resolve));
  });
});
