import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import type { Finding } from '../../../src/image/check';
import { openImages, type Image, type Images } from '../../../src/image/images';
import { openStore, type Store } from '../../../src/store/store';
import { buildImage, type BuiltImage } from '../../support/image-builder';

/** Does not compress, so that its blob is worth a file of its own. */
const bulk = randomBytes(4 * 1024 * 1024);
const small = buildImage({ layers: [[{ path: 'small', data: 'x' }]] });
const image = buildImage({
  layers: [
    [{ path: 'bulk', data: bulk }],
    [
      { path: 'dir', type: 'dir' },
      { path: 'dir/file', data: 'contents' },
    ],
  ],
});

/** Children of this process that run berth-unpack. */
function unpackers(): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .filter(pid => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        return stat.includes('(berth-unpack)') && stat.split(') ')[1]?.split(' ')[1] === String(process.pid);
      } catch {
        return false; // it has ended meanwhile
      }
    })
    .map(Number);
}

describe('the store of images', function () {
  this.timeout(30_000);
  let root: string;
  let store: Store;
  let images: Images;
  let server: Server;
  let host: string;
  /** Each request for a blob: its digest and the range asked for. */
  let asked: string[];
  /** A blob is cut off after so many bytes of an answer, so many times. */
  let cut: { after: number; times: number };
  let down: boolean;
  /** Hosts that have nothing. */
  let gone: string[];
  /** After so many bytes of the big blob nothing more comes. */
  let held: number | undefined;
  /** Hosts that send other bytes than those of the big blob. */
  let wrong: string[];
  /** A host that says no to who asks for the big blob, some time after it was asked. */
  let refusal: { host: string; asking: () => void; until: Promise<void> } | undefined;
  let inUse: string[];
  let bootId: string;
  let keepLayerBlobs: boolean;

  const ctx = () => Context.of(silentLogger, {});
  const pull = () => images.pull(ctx(), `${host}/app:1`);
  const big = image.layers[0]?.digest ?? '';
  const layerDirs = () => readdirSync(join(root, 'images/layers')).filter(name => name !== 'empty');
  const partials = () => readdirSync(join(root, 'images/content/partial'));
  const blobs = () => readdirSync(join(root, 'images/content/blobs/sha256')).sort();
  const documents = (built: BuiltImage) => [built.manifest, built.config].map(({ digest }) => digest.slice(7)).sort();
  const open = async () => {
    store = openStore(join(root, 'store'), silentLogger);
    images = await openImages({
      ...{ root: join(root, 'images'), store, log: silentLogger, layersInUse: () => inUse },
      ...{ retryDelayMs: 1, bootId, keepLayerBlobs, hostsDir: join(root, 'hosts') },
    });
  };
  const close = async () => {
    await images.close();
    await store.close();
  };
  /** Some of the big blob has arrived, and the other layer has been unpacked. */
  const begun = async () => {
    const file = join(root, 'images/content/partial', big.replace(':', '-'));
    const kept = () => layerDirs().some(name => name.startsWith('sha256-'));
    while (!existsSync(file) || statSync(file).size < 256 * 1024 || !kept()) await sleep(5);
  };
  const check = async (repair = false): Promise<Finding[]> => {
    const findings: Finding[] = [];
    for await (const event of images.check(ctx(), { repair }))
      if (event.type === 'finding') findings.push(event.finding);
    return findings;
  };

  beforeEach(async () => {
    [asked, cut, down, inUse, bootId, keepLayerBlobs] = [[], { after: 0, times: 0 }, false, [], 'one', false];
    [held, wrong, gone, refusal] = [undefined, [], [], undefined];
    const found = new Map(
      [image, small].flatMap(built => [built.config, built.manifest, ...built.layers]).map(blob => [blob.digest, blob]),
    );
    server = createServer((request, response) => {
      const name = request.url?.split('/').pop()?.replace(/\?.*/, '') ?? '';
      const { bytes, mediaType } = found.get(name) ?? (request.url?.includes('/small/') ? small : image).manifest;
      const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      if (request.url?.includes('/blobs/')) asked.push(`${name.slice(7, 15)}@${from}`);
      const own = request.headers.host ?? '';
      if (down || gone.includes(own)) return void response.writeHead(404).end();
      if (name === big && refusal?.host === own) {
        refusal.asking();
        return void refusal.until.then(() => response.writeHead(403).end());
      }
      const headers = { 'content-type': mediaType, 'content-length': bytes.length - from };
      const range = { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` };
      response.writeHead(from > 0 ? 206 : 200, from > 0 ? { ...headers, ...range } : headers);
      const isMeant = name === big || name === image.config.digest;
      if (isMeant && wrong.includes(own)) return void response.end(Buffer.alloc(bytes.length - from, 'wrong'));
      if (name === big && held !== undefined) return void response.write(bytes.subarray(from, held));
      if (name !== big || cut.times === 0) return void response.end(bytes.subarray(from));
      cut.times--;
      response.flushHeaders();
      if (cut.after === 0) setImmediate(() => response.destroy());
      else response.write(bytes.subarray(from, from + cut.after), () => response.destroy());
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    host = typeof address === 'object' && address ? `127.0.0.1:${address.port}` : '';
    root = mkdtempSync(join(tmpdir(), 'berth-store-'));
    await open();
  });
  afterEach(async () => {
    await close();
    server.closeAllConnections();
    server.close();
    rmSync(root, { recursive: true, force: true });
  });

  const bulkOf = (pulled: Image) => join(pulled.layers[0]?.dir ?? '', 'bulk');
  const whole = (pulled: Image) => assert.ok(readFileSync(bulkOf(pulled)).equals(bulk));

  it('goes on with a cut blob where it was', async () => {
    cut = { after: 1024 * 1024, times: 2 };
    whole(await pull());
    const ranges = asked.filter(line => line.startsWith(big.slice(7, 15))).map(line => Number(line.split('@')[1]));
    assert.equal(ranges[0], 0);
    assert.equal(ranges.length, 3);
    assert.ok((ranges[1] ?? 0) > 0 && (ranges[2] ?? 0) > (ranges[1] ?? 0), ranges.join());
    assert.deepEqual(partials(), []);
  });

  it('goes on with a cut blob after a restart, too; a failed pull leaves nothing else', async () => {
    held = 1024 * 1024;
    const leaver = new AbortController();
    const pulling = images.pull(Context.of(silentLogger, { signal: leaver.signal }), `${host}/app:1`);
    await begun();
    leaver.abort();
    await assert.rejects(pulling, { kind: 'cancelled' });
    const { usedBytes, inodesUsed } = await images.usageOfBeginnings();
    assert.ok(usedBytes >= 256n * 1024n && usedBytes <= 1024n * 1024n, String(usedBytes));
    assert.equal(inodesUsed, 1n);
    await close();
    assert.equal(partials().length, 1);
    assert.deepEqual(blobs(), []);
    [asked, held] = [[], undefined];
    await open();
    whole(await pull());
    const from = asked.filter(line => line.startsWith(big.slice(7, 15)));
    assert.equal(from.length, 1);
    assert.doesNotMatch(from[0] ?? '', /@0$/);
    assert.deepEqual(partials(), []);
  });

  it('says so when an unpacking process is killed, and needs only what was not there yet the next time', async () => {
    held = 1024 * 1024;
    const pulling = pull();
    pulling.catch(() => undefined);
    await begun();
    for (const pid of unpackers()) process.kill(pid, 'SIGKILL');
    await assert.rejects(pulling, {
      kind: 'internal',
      message: /unpacking ended without a word \(killed by SIGKILL\)/,
    });
    assert.deepEqual(
      layerDirs().filter(name => name.startsWith('tmp-')),
      [],
    );
    [asked, held] = [[], undefined];
    whole(await pull());
    assert.ok(asked.some(line => line.startsWith(big.slice(7, 15)) && !line.endsWith('@0')));
    assert.deepEqual(partials(), []);
  });

  it('begins anew when what it had of a blob was wrong', async () => {
    writeFileSync(join(root, 'images/content/partial', big.replace(':', '-')), randomBytes(1024 * 1024));
    whole(await pull());
    assert.deepEqual(partials(), []);
    const from = asked.filter(line => line.startsWith(big.slice(7, 15)));
    assert.equal(from.at(-1), `${big.slice(7, 15)}@0`);
  });

  it('asks somebody else for a blob that came wrong, and says so when nobody has the right one', async () => {
    const mirror = host.replace('127.0.0.1', 'localhost');
    mkdirSync(join(root, 'hosts', host), { recursive: true });
    writeFileSync(join(root, 'hosts', host, 'hosts.toml'), `[host."http://${mirror}"]\n`);
    wrong = [mirror];
    whole(await pull());
    for (const digest of [big, image.config.digest])
      assert.equal(asked.filter(line => line.startsWith(digest.slice(7, 15))).length, 2);
    await images.remove(`${host}/app:1`);
    wrong = [mirror, host];
    await assert.rejects(pull(), { kind: 'data_loss', message: /the config .* has digest/ });
    assert.deepEqual(partials(), []);
  });

  it('brings a layer from the registry that has it, while another one refuses it to who asked first', async () => {
    const other = host.replace('127.0.0.1', 'localhost');
    let refuse = () => {};
    const until = new Promise<void>(resolve => (refuse = resolve));
    const isAsked = new Promise<void>(asking => (refusal = { host: other, asking, until }));
    const first = images.pull(ctx(), `${other}/other:1`);
    first.catch(() => undefined);
    await isAsked;
    const second = images.pull(ctx(), `${host}/app:1`, {
      onProgress: ({ layer, phase }) => layer === big && phase === 'waiting' && setImmediate(refuse),
    });
    await assert.rejects(first, { kind: 'permission_denied', message: new RegExp(`^pull ${other}/other:1: `) });
    whole(await second);
  });

  it('knows layers without an image after a restart, and sweeps them with a removal', async () => {
    const blob = image.layers[0];
    assert.ok(blob);
    // Not a byte comes: with some, whether there was a step forward would be a matter of time.
    cut = { after: 0, times: 100 };
    await assert.rejects(pull(), { kind: 'unavailable' });
    cut.times = 0;
    const before = layerDirs();
    await close();
    await open();
    assert.deepEqual(layerDirs(), before);
    await images.pull(ctx(), `${host}/small:1`);
    await images.remove(`${host}/small:1`);
    await close();
    assert.deepEqual([layerDirs(), partials(), blobs()], [[], [], []]);
    await open();
  });

  describe('after the machine went down under it', () => {
    /** The daemon ends without a word, the machine with it. */
    const crash = async () => {
      const mark = join(root, 'images/boot');
      const running = readFileSync(mark, 'utf8');
      await close();
      writeFileSync(mark, running);
      bootId = 'two';
      await open();
    };

    it('finds its layers sound, and says so once', async () => {
      const pulled = await pull();
      await crash();
      await images.ready(ctx(), pulled);
      assert.deepEqual(
        images.find(pulled.id)?.layers.map(({ state }) => state),
        ['sound', 'sound'],
      );
      assert.deepEqual(await check(), []);
    });

    it('fetches a damaged layer again, alone, and leaves the old one below containers', async () => {
      const pulled = await pull();
      const before = statSync(bulkOf(pulled)).ino;
      inUse = pulled.layers.map(({ key }) => key);
      writeFileSync(bulkOf(pulled), bulk.subarray(1));
      asked = [];
      await crash();
      await images.ready(ctx(), pulled);
      whole(pulled);
      assert.deepEqual(asked, [`${big.slice(7, 15)}@0`]);
      assert.notEqual(statSync(bulkOf(pulled)).ino, before);
      const old = layerDirs().find(name => name.startsWith('old-'));
      assert.ok(old !== undefined && existsSync(join(root, 'images/layers', old, 'fs/bulk')));
      inUse = [];
      await images.collect();
      assert.equal(layerDirs().filter(name => name.startsWith('old-')).length, 0);
    });

    it('fetches a damaged layer from wherever its image has come from', async () => {
      const pulled = await pull();
      await images.pull(ctx(), `${host.replace('127.0.0.1', 'localhost')}/other:1`);
      writeFileSync(bulkOf(pulled), 'damaged');
      gone = [host];
      await crash();
      await images.ready(ctx(), pulled);
      whole(pulled);
    });

    it('never uses a damaged layer that it cannot fetch; a pull brings it back', async () => {
      const pulled = await pull();
      writeFileSync(bulkOf(pulled), 'damaged');
      down = true;
      await crash();
      await assert.rejects(images.ready(ctx(), pulled), { kind: 'data_loss', message: /could not be fetched again/ });
      assert.equal(images.find(pulled.id)?.layers[0]?.state, 'damaged');
      await close();
      await open();
      await assert.rejects(images.ready(ctx(), pulled), { kind: 'data_loss' });
      down = false;
      whole(await pull());
      await images.ready(ctx(), pulled);
    });

    it('verifies nothing after a clean stop, or when only the daemon was killed', async () => {
      const pulled = await pull();
      writeFileSync(bulkOf(pulled), 'damaged');
      await close();
      bootId = 'two';
      await open();
      await images.ready(ctx(), pulled);
      const mark = join(root, 'images/boot');
      const running = readFileSync(mark, 'utf8');
      await close();
      writeFileSync(mark, running);
      await open();
      await images.ready(ctx(), pulled);
    });
  });

  it('is checked and repaired', async () => {
    const pulled = await pull();
    assert.deepEqual(await check(), []);
    writeFileSync(bulkOf(pulled), 'damaged');
    const blobDir = join(root, 'images/content/blobs/sha256');
    rmSync(join(blobDir, image.config.digest.slice(7)));
    writeFileSync(join(blobDir, image.manifest.digest.slice(7)), Buffer.alloc(image.manifest.bytes.length));
    writeFileSync(join(blobDir, createHash('sha256').digest('hex')), '');
    writeFileSync(join(root, 'images/content/partial', `sha256-${'0'.repeat(64)}`), 'x');
    const found = await check();
    const kinds = ['blob-damaged', 'blob-missing', 'layer-damaged', 'orphan-blob', 'partial-leftover'];
    assert.deepEqual(found.map(({ kind }) => kind).sort(), kinds);
    assert.ok(found.every(({ repair }) => repair === 'not asked'));
    const repaired = await check(true);
    assert.deepEqual(
      repaired.filter(({ repair }) => repair !== 'done'),
      [],
    );
    assert.deepEqual(await check(), []);
    whole(pulled);
    assert.deepEqual(blobs(), documents(image));
  });

  it('keeps the compressed layers where that is asked for, and needs no registry for a repair then', async () => {
    await close();
    keepLayerBlobs = true;
    await open();
    const pulled = await pull();
    assert.equal(blobs().length, 4);
    writeFileSync(bulkOf(pulled), 'damaged');
    down = true;
    assert.deepEqual(
      (await check(true)).map(({ kind, repair }) => `${kind} ${repair}`),
      ['layer-damaged done'],
    );
    whole(pulled);
  });

  it('fetches each blob once for fifty pulls of images that share layers', async () => {
    const all = await Promise.all(
      Array.from({ length: 50 }, (_, i) => images.pull(ctx(), `${host}/${i % 2 ? 'app' : 'other'}:${i}`)),
    );
    assert.equal(new Set(all.map(({ id }) => id)).size, 1);
    const layers = asked.filter(line => image.layers.some(({ digest }) => line.startsWith(digest.slice(7, 15))));
    assert.deepEqual(layers.sort(), image.layers.map(({ digest }) => `${digest.slice(7, 15)}@0`).sort());
  });
});
