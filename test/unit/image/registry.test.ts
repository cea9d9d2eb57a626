import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import { digestOf } from '../../../src/image/digest';
import { mediaTypes } from '../../../src/image/documents';
import { parseReference } from '../../../src/image/reference';
import { Authorizer, parseChallenges, type RegistryAuth } from '../../../src/image/registry/auth';
import { RegistryClient } from '../../../src/image/registry/client';
import { endpointsFor } from '../../../src/image/registry/hosts';
import { Transport } from '../../../src/image/registry/transport';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

const body = Buffer.from(JSON.stringify({ schemaVersion: 2 }));
const found: Handler = (_, response) => response.writeHead(200, { 'content-type': mediaTypes.ociManifest }).end(body);
const secret = { username: 'user', password: 'canary' };
const basic = `Basic ${Buffer.from('user:canary').toString('base64')}`;

describe('registry', () => {
  let dir: string;
  let transport: Transport;
  const servers: Server[] = [];

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'berth-hosts-'));
    transport = new Transport();
  });
  afterEach(async () => {
    await transport.close();
    for (const server of servers.splice(0)) server.close();
    rmSync(dir, { recursive: true, force: true });
  });

  /** A server that notes what it was asked: `<path> <authorization>`. */
  const serve = async (handler: Handler): Promise<{ host: string; asked: string[] }> => {
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(`${request.url ?? ''} ${request.headers.authorization ?? '-'}`);
      handler(request, response);
    }).listen(0, '127.0.0.1');
    servers.push(server);
    await once(server, 'listening');
    const address = server.address();
    assert.ok(address !== null && typeof address !== 'string');
    return { host: `127.0.0.1:${address.port}`, asked };
  };
  const hosts = (host: string, text: string) => {
    mkdirSync(join(dir, host), { recursive: true });
    writeFileSync(join(dir, host, 'hosts.toml'), text);
  };
  const fetchTag = async (host: string, auth?: RegistryAuth) => {
    const client = await RegistryClient.open(parseReference(`${host}/app:1`), auth, {
      transport,
      hostsDir: dir,
      plainHttp: [],
      retryDelayMs: 1,
    });
    return client.manifest(Context.of(silentLogger, { timeoutMs: 60_000 }), '1');
  };
  const challenge =
    (header: string): Handler =>
    (request, response) => {
      if (request.headers.authorization === undefined) response.writeHead(401, { 'www-authenticate': header }).end();
      else found(request, response);
    };

  describe('endpoints', () => {
    const origins = async (host: string, plainHttp: string[] = []) =>
      (await endpointsFor(host, { hostsDir: dir, plainHttp })).map(({ origin, prefix }) => origin + prefix);

    it('are the host itself, by https unless it is loopback or said otherwise', async () => {
      assert.deepEqual(await origins('registry.example'), ['https://registry.example/v2']);
      assert.deepEqual(await origins('docker.io'), ['https://registry-1.docker.io/v2']);
      assert.deepEqual(await origins('localhost:5000'), ['http://localhost:5000/v2']);
      assert.deepEqual(await origins('127.0.0.1.evil.example'), ['https://127.0.0.1.evil.example/v2']);
      assert.deepEqual(await origins('registry.example:81', ['registry.example:81']), [
        'http://registry.example:81/v2',
      ]);
    });

    it('come from hosts.toml in its order, and are read anew each time', async () => {
      hosts(
        'docker.io',
        '[host."https://b.example/mirror"]\n[host."http://a.example/x/v2"]\ncapabilities = ["pull"]\noverride_path = true\nskip_verify = true\n',
      );
      const [b, a, own] = await endpointsFor('docker.io', { hostsDir: dir, plainHttp: [] });
      assert.deepEqual(b, {
        origin: 'https://b.example',
        prefix: '/mirror/v2',
        canPull: true,
        canResolve: true,
        canPush: true,
        skipVerify: false,
        why: `${dir}/docker.io/hosts.toml:1`,
        namespace: 'docker.io',
      });
      assert.deepEqual(a, {
        origin: 'http://a.example',
        prefix: '/x/v2',
        canPull: true,
        canResolve: false,
        canPush: false,
        skipVerify: true,
        why: `${dir}/docker.io/hosts.toml:2`,
        tls: { authorities: [], clients: [], skipVerify: true },
        tlsFiles: [],
        namespace: 'docker.io',
      });
      assert.equal(own?.origin, 'https://registry-1.docker.io');
      hosts('docker.io', 'server = "https://other.example"');
      assert.deepEqual(await origins('docker.io'), ['https://other.example/v2']);
    });

    const wrong: [text: string, why: RegExp][] = [
      ['serve = "x"', /hosts\.toml:1: serve is not a key that this berth knows; did you mean "server"\?/],
      [
        '[host."https://a.example"]\ncapabilites = []',
        /hosts\.toml:2: host\."https:\/\/a\.example"\.capabilites is not .*; did you mean "capabilities"\?/,
      ],
      ['server = 1', /hosts\.toml:1: server: /],
      ['server = "ftp://a"', /is not an http or https URL/],
      ['server = ', /hosts\.toml:1: not valid TOML: /],
    ];
    for (const [text, why] of wrong)
      it(`are refused with file and key: ${JSON.stringify(text)}`, async () => {
        hosts('r.example', text);
        await assert.rejects(endpointsFor('r.example', { hostsDir: dir, plainHttp: [] }), {
          kind: 'failed_precondition',
          message: why,
        });
      });
  });

  it('reads challenges', () => {
    assert.deepEqual(
      parseChallenges(['Bearer realm="https://t.example/token",service="a, b",scope="repository:x:pull,push"']),
      [
        {
          scheme: 'bearer',
          parameters: new Map([
            ['realm', 'https://t.example/token'],
            ['service', 'a, b'],
            ['scope', 'repository:x:pull,push'],
          ]),
        },
      ],
    );
    assert.deepEqual(
      parseChallenges(['Negotiate, Basic realm=x', 'bearer realm=y']).map(({ scheme }) => scheme),
      ['basic', 'bearer'],
    );
    assert.deepEqual(parseChallenges(['', 'Nonsense "', 'Basicx']), []);
  });

  it('reads a challenge that is one long word in no time, too', () => {
    const before = process.cpuUsage();
    parseChallenges([`Bearer ${'a'.repeat(200_000)}`]); // 20 s, should each of its ends be tried as a beginning
    assert.ok(process.cpuUsage(before).user < 2_000_000);
  });

  it('gets an anonymous token where it is told to, and one with a password', async () => {
    const tokens = await serve((_, response) => response.end('{"token":"tttt"}'));
    const registry = await serve(challenge(`Bearer realm="http://${tokens.host}/token",service="reg"`));
    assert.equal((await fetchTag(registry.host)).digest, digestOf(body));
    assert.deepEqual(tokens.asked, ['/token?scope=repository%3Aapp%3Apull&service=reg -']);
    await fetchTag(registry.host, secret);
    assert.equal(tokens.asked[1], `/token?scope=repository%3Aapp%3Apull&service=reg ${basic}`);
    assert.deepEqual(registry.asked.at(-1), '/v2/app/manifests/1 Bearer tttt');
  });

  it('gives credentials to the host they are for, and to nobody else', async () => {
    const other = await serve(challenge('Basic realm=x'));
    const registry = await serve(challenge('Basic realm=x'));
    hosts(registry.host, `[host."http://${other.host}"]`);
    await fetchTag(registry.host, secret);
    assert.deepEqual(other.asked, [`/v2/app/manifests/1?ns=${encodeURIComponent(registry.host)} -`]);
    assert.equal(registry.asked.at(-1), `/v2/app/manifests/1 ${basic}`);
    await assert.rejects(fetchTag(registry.host, { ...secret, serverAddress: 'https://elsewhere.example/v2/' }), {
      kind: 'unauthenticated',
    });
  });

  it('knows a host with and without its default port as the same', () => {
    const endpoint = {
      origin: 'https://registry.example',
      prefix: '/v2',
      canPull: true,
      canResolve: true,
      canPush: true,
      skipVerify: false,
      why: 'the default',
    };
    const knows = (imageHost: string, auth: RegistryAuth) => new Authorizer(auth, imageHost).mayKnow(endpoint);
    assert.ok(knows('registry.example', secret));
    assert.ok(knows('registry.example:443', secret));
    assert.ok(knows('x.example', { ...secret, serverAddress: 'https://Registry.example/v2/' }));
    assert.ok(!knows('registry.example:80', secret));
    assert.ok(!knows('registry.example.evil.example', secret));
    assert.ok(!knows('registry.example', { ...secret, serverAddress: 'x.example' }));
  });

  it('sends no Authorization where a redirect leads', async () => {
    const storage = await serve(found);
    const registry = await serve((request, response) => {
      if (request.headers.authorization === undefined)
        response.writeHead(401, { 'www-authenticate': 'Basic realm=x' }).end();
      else response.writeHead(307, { location: `http://${storage.host}/stored?sig=canary` }).end();
    });
    await fetchTag(registry.host, secret);
    assert.deepEqual(storage.asked, ['/stored?sig=canary -']);
  });

  it('answers no challenge of the place that a redirect leads to', async () => {
    const storage = await serve(challenge('Basic realm=x'));
    const registry = await serve((_, response) =>
      response.writeHead(307, { location: `http://${storage.host}/stored` }).end(),
    );
    await assert.rejects(fetchTag(registry.host, secret), { kind: 'unauthenticated' });
    assert.ok(storage.asked.every(line => line.endsWith(' -')));
  });

  it('asks again when the registry is busy, as late as it is told to, and gives up', async () => {
    let left = 2;
    const busy = await serve((request, response) => {
      if (left-- > 0) response.writeHead(429, { 'retry-after': '0' }).end();
      else found(request, response);
    });
    await fetchTag(busy.host);
    assert.equal(busy.asked.length, 3);
    const down = await serve((_, response) => response.writeHead(503).end('{"errors":[{"message":"too tired"}]}'));
    await assert.rejects(fetchTag(down.host), {
      kind: 'unavailable',
      message: `pull ${down.host}/app:1: GET http://${down.host}/v2/app/manifests/1 answered 503 (too tired) four times; the node reaches the host, so check the registry`,
    });
    assert.equal(down.asked.length, 4);
  });

  it('goes on to the next endpoint, and names all when none has it', async () => {
    const mirror = await serve((_, response) => response.writeHead(404).end());
    const registry = await serve(found);
    hosts(registry.host, `[host."http://${mirror.host}"]`);
    await fetchTag(registry.host);
    hosts(mirror.host, `[host."http://${mirror.host}/v2"]`);
    await assert.rejects(fetchTag(mirror.host), {
      kind: 'not_found',
      message:
        /answered 404; check the name and tag; the mirrors failed, too: http:\/\/127\.0\.0\.1:\d+: GET \S+ answered 404/,
    });
  });

  it('takes no manifest that is too long, and no redirect for ever', async () => {
    const long = await serve((_, response) => response.writeHead(200).end(Buffer.alloc(5 * 1024 * 1024)));
    await assert.rejects(fetchTag(long.host), /bytes long, and 4194304 is the limit/);
    const loop = await serve((_, response) => response.writeHead(302, { location: '/again' }).end());
    await assert.rejects(fetchTag(loop.host), { kind: 'unavailable', message: /more than 5 redirects/ });
  });

  it('ends when the caller goes away', async () => {
    const silent = await serve(() => undefined);
    const client = await RegistryClient.open(parseReference(`${silent.host}/app:1`), undefined, {
      transport,
      hostsDir: undefined,
      plainHttp: [],
    });
    await assert.rejects(client.manifest(Context.of(silentLogger, { timeoutMs: 50 }), '1'), {
      kind: 'deadline_exceeded',
    });
  });
});
