import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, Socket, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import { digestOf } from '../../../src/image/digest';
import { parseReference } from '../../../src/image/reference';
import type { RegistryAuth } from '../../../src/image/registry/auth';
import { networkReason, RegistryClient, type RegistryOptions } from '../../../src/image/registry/client';
import { storedAuth } from '../../../src/image/registry/docker-config';
import { explainPull } from '../../../src/image/registry/explain';
import { proxyFor, proxySettings } from '../../../src/image/registry/proxies';
import { Transport, type TransportOptions } from '../../../src/image/registry/transport';
import { addon } from '../../../src/native/addon';

const body = Buffer.from(JSON.stringify({ schemaVersion: 2 }));
const canary = 'canary-7f3a';
const blob = Buffer.alloc(300_000, 'berth');
const digest = digestOf(blob);

interface Asked {
  line: string;
  headers: string;
}

/** Says raw bytes, since what it says is often no HTTP. */
type Say = (socket: Socket, asked: Asked, host: string) => void;

const ok = (bytes: Buffer, head = 'Content-Type: application/json') =>
  Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\n${head}\r\nContent-Length: ${bytes.length}\r\n\r\n`), bytes]);
const status = (code: number, ...headers: string[]) =>
  `HTTP/1.1 ${code} X\r\n${[...headers, 'Content-Length: 0'].join('\r\n')}\r\n\r\n`;

describe('a hostile registry', function () {
  this.timeout(20_000);
  const servers: Server[] = [];
  const sockets = new Set<Socket>();
  const transports: Transport[] = [];
  let dir: string;

  beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'berth-hostile-'))));
  afterEach(async () => {
    await Promise.all(transports.splice(0).map(one => one.close()));
    for (const socket of sockets) socket.destroy();
    for (const server of servers.splice(0)) server.close();
    rmSync(dir, { recursive: true, force: true });
  });

  const serve = async (say: Say): Promise<{ host: string; asked: Asked[] }> => {
    const asked: Asked[] = [];
    let host = '';
    const server = createServer(socket => {
      sockets.add(socket.on('error', () => undefined));
      let text = '';
      socket.on('data', chunk => {
        text += chunk.toString('latin1');
        for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
          const [line = '', ...headers] = text.slice(0, end).split('\r\n');
          const length = Number(/^content-length: (\d+)/im.exec(headers.join('\n'))?.[1] ?? 0);
          if (text.length < end + 4 + length) return;
          text = text.slice(end + 4 + length);
          const one = { line, headers: headers.join('\n') };
          asked.push(one);
          say(socket, one, host);
        }
      });
    }).listen(0, '127.0.0.1');
    servers.push(server);
    await once(server, 'listening');
    const address = server.address();
    assert.ok(address !== null && typeof address !== 'string');
    host = `127.0.0.1:${address.port}`;
    return { host, asked };
  };
  const open = (host: string, auth?: RegistryAuth, more: TransportOptions & Partial<RegistryOptions> = {}) => {
    const transport = new Transport({ progressTimeoutMs: 300, environment: {}, ...more });
    transports.push(transport);
    const options = { transport, hostsDir: dir, plainHttp: [], retryDelayMs: 1, ...more };
    return RegistryClient.open(parseReference(`${host}/app:1`), auth, options);
  };
  const ctx = () => Context.of(silentLogger, { timeoutMs: 60_000 });
  const received = async (client: RegistryClient, offset: number) => {
    const bytes = await client.blob(ctx(), digest, offset);
    const [readEnd, writeEnd] = addon().pipe();
    const chunks: Buffer[] = [];
    const reader = new Socket({ fd: readEnd }).on('data', chunk => chunks.push(chunk));
    const closed = once(reader, 'close');
    const outcome = await bytes.pipeTo?.(writeEnd, ctx().signal).then(
      () => undefined,
      (error: unknown) => error,
    );
    await closed;
    await bytes.close();
    return { offset: bytes.offset, bytes: Buffer.concat(chunks), error: outcome };
  };

  const loud = 'x'.repeat(70_000);
  const documents: [name: string, say: Say, why: RegExp][] = [
    ['redirects for ever', socket => socket.write(status(302, 'Location: /again')), /more than 5 redirects/],
    [
      'redirects to a file',
      socket => socket.write(status(302, 'Location: file:///etc/passwd')),
      /not an http or https/,
    ],
    ['asks to log in for ever', socket => socket.write(status(401, 'WWW-Authenticate: Basic realm=x')), /answered 401/],
    ['has huge headers', socket => socket.write(ok(body, `X-A: ${loud}`)), /Headers Overflow/],
    ['cuts a document', socket => socket.end(ok(body).subarray(0, -5)), /other side closed|terminated/],
    ['speaks nonsense', socket => socket.write('HTTP/9.9 yes please\r\n\r\n'), /Invalid|Expected/],
    [
      'breaks its chunks',
      socket => socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n'),
      /Invalid character in chunk size/,
    ],
    ['encodes what it sends', socket => socket.write(ok(body, 'Content-Encoding: gzip')), /came encoded as gzip/],
    ['is silent', () => undefined, /Headers Timeout/],
    ['stands still', socket => socket.write(ok(body).subarray(0, -5)), /next to nothing came for 0\.3 s/],
    [
      'sends an endless error',
      socket => void (socket.write('HTTP/1.1 404 X\r\n\r\n'), setImmediate(() => socket.write(Buffer.alloc(1 << 20)))),
      /answered 404/,
    ],
  ];
  for (const [name, say, why] of documents)
    it(`that ${name} is named by a sentence, and told no secret twice`, async () => {
      const { host } = await serve(say);
      const startedAt = Date.now();
      const client = await open(host, { username: 'user', password: canary });
      await assert.rejects(client.manifest(ctx(), '1'), (error: Error) => {
        assert.match(error.message, why);
        assert.ok(!error.message.includes(canary));
        return true;
      });
      assert.ok(Date.now() - startedAt < 25_000);
    });

  it('gets no secret by a redirect, nor by a token server that redirects what is posted', async () => {
    const thief = await serve(socket => socket.write(ok(body)));
    const { host } = await serve((socket, { line }, own) => {
      if (line.startsWith('POST')) socket.write(status(307, `Location: http://${thief.host}/steal`));
      else socket.write(status(401, `WWW-Authenticate: Bearer realm="http://${own}/token"`));
    });
    await assert.rejects((await open(host, { identityToken: canary })).manifest(ctx(), '1'), /follows no redirect/);
    assert.deepEqual(thief.asked, []);
  });

  it('gets no secret for whoever it redirects to, who asks for it in its place', async () => {
    const thief = await serve((socket, _asked, own) =>
      socket.write(status(401, `WWW-Authenticate: Bearer realm="http://${own}/token", Basic realm=x`)),
    );
    const { host } = await serve(socket => socket.write(status(307, `Location: http://${thief.host}/blob`)));
    const client = await open(host, { username: 'user', password: canary, identityToken: canary });
    await assert.rejects(client.manifest(ctx(), '1'), {
      message: new RegExp(`was redirected to http://${thief.host}, which answered 401$`),
    });
    assert.deepEqual(
      thief.asked.map(({ line }) => line),
      ['GET /blob HTTP/1.1'],
    );
    assert.ok(!JSON.stringify(thief.asked).includes('uthorization'));
  });

  it('whose token expires is asked with a new one', async () => {
    let tokens = 0;
    const { host, asked } = await serve((socket, { line, headers }, own) => {
      const challenge = `WWW-Authenticate: Bearer realm="http://${own}/token",service=s`;
      if (line.includes('/token'))
        socket.write(ok(Buffer.from(JSON.stringify({ access_token: `t${++tokens}`, expires_in: 60 }))));
      else if (headers.includes(`Bearer t${tokens}`) && tokens > 0) socket.write(ok(body));
      else socket.write(status(401, challenge));
    });
    const client = await open(host);
    await client.manifest(ctx(), '1');
    tokens++; // t1 is worth nothing any more
    await client.manifest(ctx(), '1');
    assert.equal(asked.filter(({ line }) => line.includes('/token')).length, 2);
  });

  it('with one way to get a token is asked in that way', async () => {
    for (const [only, auth] of [
      ['POST', { username: 'user', password: 'pw' }],
      ['GET', { identityToken: 'id', username: 'user', password: 'pw' }],
    ] as const) {
      const { host } = await serve((socket, { line, headers }, own) => {
        if (line.includes('/token'))
          socket.write(
            line.startsWith(only) ? ok(Buffer.from('{"token":"tttt"}')) : status(only === 'POST' ? 404 : 405),
          );
        else if (headers.includes('Bearer tttt')) socket.write(ok(body));
        else socket.write(status(401, `WWW-Authenticate: Bearer realm="http://${own}/token"`));
      });
      assert.equal((await (await open(host, auth)).manifest(ctx(), '1')).digest, digestOf(body));
    }
  });

  const partial = (range: string, bytes: Buffer) =>
    Buffer.concat([
      Buffer.from(`HTTP/1.1 206 X\r\nContent-Range: ${range}\r\nContent-Length: ${bytes.length}\r\n\r\n`),
      bytes,
    ]);
  const ranged =
    (answer: Buffer | string): Say =>
    (socket, { headers }) =>
      void socket.write(/^range:/im.test(headers) ? answer : ok(blob));
  const size = blob.length;
  const ranges: [name: string, answer: Buffer | string, offset: number, from: number][] = [
    ['goes on where it was', partial(`bytes 1000-${size - 1}/${size}`, blob.subarray(1000)), 1000, 1000],
    ['begins anew when it cannot skip', ok(blob), 1000, 0],
    ['begins anew after another range', partial(`bytes 999-${size - 1}/${size}`, blob.subarray(999)), 1000, 0],
    ['begins anew after a range without a name', partial('nonsense', blob.subarray(1000)), 1000, 0],
    ['has nothing more of a whole blob', status(416, `Content-Range: bytes */${size}`), size, size],
    ['begins anew when the offset is past the end', status(416, `Content-Range: bytes */${size - 1}`), size, 0],
  ];
  for (const [name, answer, offset, from] of ranges)
    it(`and its blob: a resumed download ${name}`, async () => {
      const { host } = await serve(ranged(answer));
      const got = await received(await open(host), offset);
      assert.deepEqual([got.offset, got.error], [from, undefined]);
      assert.equal(digestOf(Buffer.concat([blob.subarray(0, from), got.bytes])), digest);
    });

  const breaks: [name: string, say: Say, why: RegExp][] = [
    [
      'resets it',
      socket => void (socket.write(ok(blob).subarray(0, 5000)), setTimeout(() => socket.resetAndDestroy(), 50)),
      /ECONNRESET/,
    ],
    ['ends it early', socket => void socket.end(ok(blob).subarray(0, 5000)), /closed|terminated/],
    ['stands still', socket => void socket.write(ok(blob).subarray(0, 5000)), /next to nothing came/],
  ];
  for (const [name, say, why] of breaks)
    it(`and its blob: an error comes when it ${name}, and the pipe is closed`, async () => {
      const { error } = await received(await open((await serve(say)).host), 0);
      assert.match(networkReason(error).reason, why);
      assert.equal(networkReason(error).fatal, false);
    });

  it('is left for another endpoint once a blob of its broke', async () => {
    const bad = await serve(socket => void socket.end(ok(blob).subarray(0, 5000)));
    const good = await serve(socket => void socket.write(ok(blob)));
    mkdirSync(join(dir, good.host));
    writeFileSync(join(dir, good.host, 'hosts.toml'), `[host."http://${bad.host}"]\n`);
    const client = await open(good.host);
    assert.ok((await received(client, 0)).error);
    assert.equal(digestOf((await received(client, 0)).bytes), digest);
  });

  it('closes the pipe of a blob that was given up', async () => {
    const client = await open((await serve(socket => void socket.write(ok(blob)))).host);
    const bytes = await client.blob(ctx(), digest, 0);
    await bytes.close();
    const [readEnd, writeEnd] = addon().pipe();
    await assert.rejects(async () => bytes.pipeTo?.(writeEnd, ctx().signal), /given up/);
    assert.throws(() => closeSync(writeEnd), { code: 'EBADF' });
    closeSync(readEnd);
  });

  it('is found through a proxy, whose password nobody is told', async () => {
    const proxy = await serve(
      (socket, { headers }) => void socket.write(/proxy-authorization: Basic /i.test(headers) ? ok(body) : status(407)),
    );
    const environment = { HTTP_PROXY: `http://user:${canary}@${proxy.host}` };
    const client = await open('registry.example', undefined, { environment, plainHttp: ['registry.example'] });
    await client.manifest(ctx(), '1');
    assert.match(proxy.asked[0]?.line ?? '', /^GET http:\/\/registry\.example\/v2\/app\/manifests\/1 /);
    const transport = transports[0];
    assert.ok(transport);
    const options = { transport, hostsDir: dir, plainHttp: ['registry.example'] };
    const report = await explainPull(
      ctx(),
      parseReference('registry.example/app:1'),
      { username: 'u', password: canary },
      options,
    );
    assert.ok(!JSON.stringify(report).includes(canary));
    assert.deepEqual(
      report.map(({ url, proxy: by, used, credentials }) => ({ url, by, used, credentials })),
      [
        {
          url: 'http://registry.example/v2/app/manifests/1',
          by: `http://${proxy.host}`,
          used: true,
          credentials: { source: 'the request', username: 'u' },
        },
      ],
    );
  });

  it('ends its thread when nothing is asked, and starts another', async () => {
    const client = await open((await serve(socket => void socket.write(ok(body)))).host, undefined, { idleMs: 1 });
    await client.manifest(ctx(), '1');
    await new Promise(resolve => setTimeout(resolve, 50));
    await client.manifest(ctx(), '1');
  });
});

describe('proxies', () => {
  const cases: [none: string, url: string, proxied: boolean][] = [
    ['', 'https://a.example', true],
    ['*', 'https://a.example', false],
    ['a.example', 'https://a.example', false],
    ['a.example', 'https://x.a.example', false],
    ['a.example', 'https://xa.example', true],
    ['.a.example', 'https://a.example', true],
    ['.a.example', 'https://x.a.example', false],
    ['a.example:5000', 'https://a.example', true],
    ['a.example:5000', 'https://a.example:5000', false],
    ['b.example, 10.0.0.0/8', 'https://10.1.2.3', false],
    ['10.0.0.0/8', 'https://11.1.2.3', true],
    ['fd00::/8', 'https://[fd00::1]', false],
    ['fd00::1', 'https://[fd00::1]:5000', false],
    ['192.0.2.1', 'https://192.0.2.1:5000', false],
    ['', 'https://127.0.0.1', false],
    ['', 'https://localhost:5000', false],
  ];
  for (const [none, url, proxied] of cases)
    it(`with NO_PROXY=${none}: ${url} ${proxied ? 'goes' : 'does not go'} through`, () => {
      const settings = proxySettings({ https_proxy: 'proxy.example:3128', NO_PROXY: none });
      assert.equal(proxyFor(new URL(url), settings)?.origin, proxied ? 'http://proxy.example:3128' : undefined);
    });
});

describe('the docker config', () => {
  let dir: string;
  beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'berth-docker-'))));
  afterEach(() => rmSync(dir, { recursive: true, force: true }));
  const stored = (host: string, config: unknown, timeoutMs = 5000) => {
    const file = join(dir, 'config.json');
    writeFileSync(file, typeof config === 'string' ? config : JSON.stringify(config));
    return storedAuth(host, { file, helperDirs: [dir], helperTimeoutMs: timeoutMs });
  };
  const helper = (name: string, script: string) =>
    writeFileSync(join(dir, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`, { mode: 0o755 });

  it('has entries by host and by URL, and Docker Hub under its old name', async () => {
    const auths = { 'https://index.docker.io/v1/': { auth: 'aDpw' }, 'r.example:5000': { identitytoken: 'it' } };
    assert.deepEqual((await stored('docker.io', { auths }))?.auth, { auth: 'aDpw' });
    assert.deepEqual((await stored('registry-1.docker.io', { auths }))?.auth, { auth: 'aDpw' });
    assert.deepEqual((await stored('r.example:5000', { auths }))?.auth, { identityToken: 'it' });
    assert.equal(await stored('r.example', { auths }), undefined);
  });

  it('asks helpers, for one host before those for all', async () => {
    helper('one', `read -r s; cat >&2; printf '{"Username":"<token>","Secret":"%s"}' "$s"`);
    helper('all', `cat > ${dir}/asked; echo 'credentials not found in native keychain'; exit 1`);
    const config = { credHelpers: { 'r.example': 'one' }, credsStore: 'all' };
    assert.deepEqual((await stored('r.example', config))?.auth, { identityToken: 'r.example' });
    assert.equal(await stored('docker.io', config), undefined);
    assert.equal(readFileSync(join(dir, 'asked'), 'utf8'), 'https://index.docker.io/v1/');
  });

  it('says in a sentence what a helper did wrong, and nothing that it said', async () => {
    helper('slow', 'sleep 60');
    helper('loud', 'yes canary');
    helper('wrong', 'echo canary');
    helper('fails', 'echo canary; exit 3');
    const cases: [name: string, why: RegExp][] = [
      ['slow', /docker-credential-slow get r\.example: no answer within 0\.2 s/],
      ['loud', /says more than 65536 bytes/],
      ['wrong', /is not the JSON of a credential helper/],
      ['fails', /ended with status 3/],
      ['absent', /there is no such program in/],
      ['../evil', /has characters that no helper has/],
    ];
    for (const [credsStore, why] of cases)
      await assert.rejects(stored('r.example', { credsStore }, credsStore === 'slow' ? 200 : 5000), (error: Error) => {
        assert.match(error.message, why);
        assert.ok(!error.message.includes('canary'));
        return true;
      });
    await assert.rejects(stored('r.example', '{"auths": canary'), { message: /config\.json: it is not JSON$/ });
  });
});
