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
    const patches: (string | undefined)[] = [];
    const host = await before(asked => {
      if (asked.method !== 'PATCH' || Number(asked.headers['content-length']) < 1_000_000) return false;
      patches.push(asked.headers['content-range']);
      if (patches.length > 1) return false;
      let seen = 0;
      asked.on('data', (chunk: Buffer) => {
        seen += chunk.length;
        if (seen > 1_000_000) asked.destroy();
      });
      return false;
    });
    await images.tag(image.id, `${host}/cut/off:1`);
    assert.deepEqual((await phases(`${host}/cut/off:1`)).last, ['pushed', 'pushed', 'pushed']);
    assert.equal(patches.length, 2);
    assert.equal(await digestAt(registry.host, 'cut/off', '1'), image.manifest.digest);
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
