import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import { digestOf } from '../../../src/image/digest';
import { openImages, type Images, type PushProgress } from '../../../src/image/images';
import { openStore, type Store } from '../../../src/store/store';
import { buildImage } from '../../support/image-builder';
import { pushImage, startRegistry, type Registry } from '../../support/registry';

type Handler = (asked: IncomingMessage, answer: ServerResponse) => void;

describe('a push', function () {
  this.timeout(60_000);
  // Random bytes: larger than what is in flight at once.
  const image = buildImage({
    layers: [
      [{ path: 'small', data: 'small' }],
      [{ path: 'large', data: randomBytes(6 * 1024 * 1024) }],
      [{ path: 'other', data: randomBytes(100_000) }],
    ],
    config: { Cmd: ['/none'] },
  });
  let dir: string;
  let registry: Registry;
  let store: Store;
  let images: Images;
  const servers: Server[] = [];

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'berth-push-'));
    registry = await startRegistry();
    await pushImage(registry, 'from/here', '1', image);
    await open();
  });
  afterEach(async () => {
    await close();
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
    await registry.stop();
    rmSync(dir, { recursive: true, force: true });
  });
  const open = async (keepLayerBlobs = true) => {
    store = openStore(join(dir, 'store'), silentLogger);
    const parts = { root: join(dir, 'images'), store, log: silentLogger, layersInUse: () => [] };
    images = await openImages({ ...parts, retryDelayMs: 1, keepLayerBlobs });
  };
  const close = async () => {
    await images.close();
    await store.close();
  };
  const context = () => Context.of(silentLogger, { timeoutMs: 30_000 });
  const bring = () => images.pull(context(), `${registry.host}/from/here:1`);
  const phases = async (name: string) => {
    const seen = new Map<string, string[]>();
    const note = ({ layer, phase }: PushProgress) => {
      const list = seen.get(layer) ?? [];
      if (list.at(-1) !== phase) list.push(phase);
      seen.set(layer, list);
    };
    const pushed = await images.push(context(), name, undefined, note);
    return { pushed, last: image.layers.map(({ digest }) => seen.get(digest)?.at(-1)) };
  };
  const digestAt = async (host: string, repository: string, tag: string) => {
    const accept = 'application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json';
    const response = await fetch(`http://${host}/v2/${repository}/manifests/${tag}`, { headers: { accept } });
    await response.arrayBuffer();
    return response.headers.get('docker-content-digest');
  };
  const serve = async (handler: Handler) => {
    const server = createServer(handler).listen(0, '127.0.0.1');
    servers.push(server);
    await once(server, 'listening');
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  };
  /** A registry that another stands before, which may do otherwise when `intercept` says so. */
  const before = (intercept: (asked: IncomingMessage, answer: ServerResponse) => boolean) =>
    serve((asked, answer) => {
      if (intercept(asked, answer)) return;
      const { method, url, headers } = asked;
      const [host = '', port] = registry.host.split(':');
      const onward = request({ host, port, method, path: url, headers }, given => {
        answer.writeHead(given.statusCode ?? 500, given.headers);
        given.pipe(answer);
      });
      onward.on('error', () => answer.destroy());
      // Whoever is cut off is cut off on the other side, too.
      asked.on('close', () => asked.complete || onward.destroy());
      asked.pipe(onward);
    });

  it('brings the image as it is, to the last byte, and a second one sends nothing', async () => {
    await bring();
    const other = await startRegistry();
    try {
      const name = `${other.host}/user/app:2`;
      await images.tag(image.id, name);
      const first = await phases(name);
      assert.deepEqual(first.last, ['pushed', 'pushed', 'pushed']);
      assert.deepEqual([first.pushed.digest, first.pushed.reference], [image.manifest.digest, name]);
      assert.equal(await digestAt(other.host, 'user/app', '2'), image.manifest.digest);
      assert.deepEqual((await phases(name)).last, ['exists', 'exists', 'exists']);
      assert.ok(images.find(image.id)?.digests.includes(`${other.host}/user/app@${image.manifest.digest}`));
      await images.remove(image.id);
      assert.equal((await images.pull(context(), name)).id, image.id);
    } finally {
      await other.stop();
    }
  });

  it('takes over what the registry has in another repository', async () => {
    await bring();
    await images.tag(image.id, `${registry.host}/to/there:1`);
    assert.deepEqual((await phases(`${registry.host}/to/there:1`)).last, ['mounted', 'mounted', 'mounted']);
    assert.equal(await digestAt(registry.host, 'to/there', '1'), image.manifest.digest);
  });

  it('goes on where a broken connection has left off', async () => {
    await bring();
    const sessions = new Map<string, Buffer>();
    const blobs = new Set<string>();
    const ranges: (string | undefined)[] = [];
    let cuts = 1;
    const host = await serve((asked, answer) => {
      const { method, headers } = asked;
      const url = new URL(asked.url ?? '', 'http://registry');
      const has = sessions.get(url.pathname);
      const end = (status: number, more = {}) =>
        asked.resume().on('end', () => answer.writeHead(status, { location: url.pathname, ...more }).end());
      if (method === 'HEAD') return void end(blobs.has(url.pathname.replace(/^.*\//, '')) ? 200 : 404);
      if (method === 'POST') {
        const path = `/v2/cut/off/blobs/uploads/${sessions.size}`;
        sessions.set(path, Buffer.alloc(0));
        return void end(202, { location: path });
      }
      if (url.pathname.includes('/manifests/')) return void end(201);
      if (has === undefined) return void end(404);
      if (method === 'GET') return void end(204, { range: `0-${has.length - 1}` });
      if (method === 'PUT') {
        blobs.add(digestOf(has));
        return void end(blobs.has(url.searchParams.get('digest') ?? '') ? 201 : 400);
      }
      const from = Number(headers['content-range']?.split('-')[0] ?? 0);
      if (from !== has.length) return void end(416);
      const isLarge = Number(headers['content-length']) > 1_000_000;
      if (isLarge) ranges.push(headers['content-range']);
      asked.on('data', (chunk: Buffer) => {
        const all = Buffer.concat([sessions.get(url.pathname) ?? has, chunk]);
        sessions.set(url.pathname, all);
        if (isLarge && all.length > 1_000_000 && cuts-- > 0) asked.destroy();
      });
      asked.on('end', () => answer.writeHead(202, { location: url.pathname }).end());
    });
    await images.tag(image.id, `${host}/cut/off:1`);
    assert.deepEqual((await phases(`${host}/cut/off:1`)).last, ['pushed', 'pushed', 'pushed']);
    assert.equal(ranges[0], undefined);
    assert.match(ranges[1] ?? '', /^[1-9]\d*-\d+$/);
    assert.ok(image.layers.every(({ digest }) => blobs.has(digest)));
  });

  it('begins again where the registry does not know how far a broken connection had come', async () => {
    await bring();
    let cuts = 0;
    const host = await before(asked => {
      if (asked.method !== 'PATCH' || Number(asked.headers['content-length']) < 1_000_000 || cuts++ > 0) return false;
      let seen = 0;
      asked.on('data', (chunk: Buffer) => {
        seen += chunk.length;
        if (seen > 1_000_000) asked.destroy();
      });
      return false;
    });
    await images.tag(image.id, `${host}/cut/off:1`);
    assert.deepEqual((await phases(`${host}/cut/off:1`)).last, ['pushed', 'pushed', 'pushed']);
    assert.equal(cuts, 2);
    assert.equal(await digestAt(registry.host, 'cut/off', '1'), image.manifest.digest);
  });

  it('asks what has become of an upload whose last answer was lost', async () => {
    await bring();
    let lost = 0;
    const host = await before((asked, answer) => {
      if (asked.method !== 'PUT' || !asked.url?.includes('/uploads/') || lost > 0) return false;
      lost++;
      const [to = '', port] = registry.host.split(':');
      asked.pipe(
        request({ host: to, port, method: 'PUT', path: asked.url, headers: asked.headers }, given => {
          given.resume().on('end', () => answer.destroy());
        }),
      );
      return true;
    });
    await images.tag(image.id, `${host}/lost:1`);
    assert.deepEqual((await phases(`${host}/lost:1`)).last, ['pushed', 'pushed', 'pushed']);
    assert.equal(lost, 1);
  });

  it('does not repeat what a registry will never take, and says why', async () => {
    await bring();
    let patches = 0;
    const host = await before((asked, answer) => {
      if (asked.method !== 'PATCH') return false;
      patches++;
      asked.resume().on('end', () => answer.writeHead(413).end());
      return true;
    });
    await images.tag(image.id, `${host}/large:1`);
    await assert.rejects(phases(`${host}/large:1`), {
      kind: 'failed_precondition',
      message: /PATCH .* answered 413.*proxy before it.*limit/,
    });
    assert.ok(patches <= image.layers.length);
  });

  it('is patient with a registry that is busy, and gives up with a sentence', async () => {
    await bring();
    let busy = 2;
    const host = await before((asked, answer) => {
      if (asked.method !== 'HEAD' || busy-- <= 0) return false;
      answer.writeHead(503).end();
      return true;
    });
    await images.tag(image.id, `${host}/busy:1`);
    assert.deepEqual((await phases(`${host}/busy:1`)).last, ['pushed', 'pushed', 'pushed']);
    busy = 1000;
    await images.tag(image.id, `${host}/busy:2`);
    await assert.rejects(phases(`${host}/busy:2`), {
      kind: 'unavailable',
      message: new RegExp(`^push ${host}/busy:2: HEAD http://${host}/v2/busy/blobs/\\S+ answered 503 four times`),
    });
  });

  it('sends the credentials to the registry, and not to where that sends the bytes', async () => {
    await bring();
    const seen: { at: string; method: string | undefined; authorization: string | undefined }[] = [];
    const note = (at: string, { method, headers: { authorization } }: IncomingMessage) =>
      seen.push({ at, method, authorization });
    const store = await serve((asked, answer) => {
      note('store', asked);
      asked.resume().on('end', () => {
        answer.writeHead(asked.method === 'PUT' ? 201 : 202, { location: asked.url }).end();
      });
    });
    const host = await serve((asked, answer) => {
      note('registry', asked);
      asked.resume().on('end', () => {
        if (asked.headers.authorization === undefined)
          return answer.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
        if (asked.method === 'HEAD') return answer.writeHead(404).end();
        if (asked.method === 'POST') return answer.writeHead(202, { location: `http://${store}/upload` }).end();
        return answer.writeHead(201).end();
      });
    });
    const name = `${host}/elsewhere:1`;
    await images.tag(image.id, name);
    await images.push(context(), name, { username: 'user', password: 'canary' });
    const stored = seen.filter(({ at }) => at === 'store');
    assert.ok(stored.some(({ method }) => method === 'PATCH') && stored.some(({ method }) => method === 'PUT'));
    assert.deepEqual([...new Set(stored.map(({ authorization }) => authorization))], [undefined]);
    const basic = `Basic ${Buffer.from('user:canary').toString('base64')}`;
    assert.ok(seen.some(({ at, authorization }) => at === 'registry' && authorization === basic));
  });

  it('fetches layers that the node has not kept from where they came, or says that nobody has them', async () => {
    await close();
    await open(false);
    await bring();
    const other = await startRegistry();
    try {
      await images.tag(image.id, `${other.host}/again:1`);
      assert.deepEqual((await phases(`${other.host}/again:1`)).last, ['pushed', 'pushed', 'pushed']);
      await registry.stop();
      await other.stop();
      const host = await serve((asked, answer) => {
        asked
          .resume()
          .on('end', () => answer.writeHead(asked.method === 'HEAD' ? 404 : 202, { location: '/up' }).end());
      });
      await images.tag(image.id, `${host}/never:1`);
      await assert.rejects(phases(`${host}/never:1`), {
        kind: 'unavailable',
        message:
          /^push .*: the node has not kept the compressed layer sha256:.*does not give it again.*keep_layer_blobs/,
      });
    } finally {
      await other.stop();
    }
  });

  it('needs a name that the image has', async () => {
    await assert.rejects(images.push(context(), 'nobody/has:1'), {
      kind: 'not_found',
      message: /no image is called docker\.io\/nobody\/has:1; tag it first/,
    });
  });
});
