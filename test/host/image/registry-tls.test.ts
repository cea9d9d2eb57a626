import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import { createServer as createProxy, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import { parseReference } from '../../../src/image/reference';
import { RegistryClient } from '../../../src/image/registry/client';
import { explainPull } from '../../../src/image/registry/explain';
import { Transport } from '../../../src/image/registry/transport';

const host = 'registry.example';

describe('a registry with TLS', function () {
  this.timeout(20_000);
  let dir: string;
  let server: Server;
  let proxy: ReturnType<typeof createProxy>;
  let transport: Transport;
  /** The name in the client's certificate, for each request; '' when it showed none. */
  let shown: string[];
  let headers: unknown[];

  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'berth-tls-'));
    const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'ignore' });
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test', '-days', '2');
    const issue = (name: string, subject: string, extension: string) => {
      writeFileSync(join(dir, 'extension'), extension);
      openssl('req', ...key, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${subject}`);
      const by = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'extension'];
      openssl('x509', '-req', '-in', `${name}.csr`, '-out', `${name}.pem`, '-days', '2', ...by);
    };
    issue('server', host, `subjectAltName=DNS:${host}`);
    issue('client', 'node-7', 'extendedKeyUsage=clientAuth');
    writeFileSync(
      join(dir, 'both.pem'),
      readFileSync(join(dir, 'client.pem'), 'utf8') + readFileSync(join(dir, 'client.key'), 'utf8'),
    );
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  // A made-up name is reached through a CONNECT proxy, which sends everything to the one server there is.
  beforeEach(async () => {
    [shown, headers] = [[], []];
    const material = {
      ca: readFileSync(join(dir, 'ca.pem')),
      cert: readFileSync(join(dir, 'server.pem')),
      key: readFileSync(join(dir, 'server.key')),
    };
    server = createServer({ ...material, requestCert: true, rejectUnauthorized: false }, (request, response) => {
      const { subject } = (request.socket as TLSSocket).getPeerCertificate() as { subject?: { CN?: string } };
      shown.push(subject?.CN ?? '');
      headers.push(request.headers['x-token']);
      if (request.url?.startsWith('/away/')) response.writeHead(302, { location: 'https://storage.example/' });
      response.end('{"schemaVersion":2}');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const at = server.address();
    assert.ok(at !== null && typeof at !== 'string');
    proxy = createProxy(socket => {
      socket.once('data', () => {
        const onward = connect(at.port, '127.0.0.1', () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
        onward
          .on('error', () => socket.destroy())
          .pipe(socket)
          .on('error', () => onward.destroy())
          .pipe(onward);
      });
    }).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    const by = proxy.address();
    assert.ok(by !== null && typeof by !== 'string');
    transport = new Transport({ environment: { HTTPS_PROXY: `http://127.0.0.1:${by.port}` } });
  });
  afterEach(async () => {
    await transport.close();
    server.closeAllConnections();
    server.close();
    proxy.close();
    rmSync(join(dir, 'certs.d'), { recursive: true, force: true });
  });

  const options = () => ({ transport, hostsDir: join(dir, 'certs.d'), plainHttp: [], retryDelayMs: 1 });
  const ctx = () => Context.of(silentLogger, { timeoutMs: 10_000 });
  const fetchTag = async (text?: string, folder = host) => {
    mkdirSync(join(dir, 'certs.d', folder), { recursive: true });
    if (text !== undefined) writeFileSync(join(dir, 'certs.d', folder, 'hosts.toml'), text);
    await (await RegistryClient.open(parseReference(`${host}/app:1`), undefined, options())).manifest(ctx(), '1');
  };
  const ca = () => `ca = "${join(dir, 'ca.pem')}"\n`;

  it('is refused when nobody vouches for it, and says what to look at', async () => {
    await assert.rejects(fetchTag(), { kind: 'unavailable', message: /unable to verify|self.signed|local issuer/i });
  });

  it('is trusted by its authority, which is read anew each time', async () => {
    await fetchTag(`server = "https://${host}"\n${ca()}`);
    await assert.rejects(fetchTag(`server = "https://${host}"\n`));
    await assert.rejects(fetchTag(ca(), '_default'), /certificate/); // its own folder wins
    rmSync(join(dir, 'certs.d', host), { recursive: true });
    await fetchTag(ca(), '_default');
  });

  it('is trusted blindly where that is asked for, and a name that is not in the certificate is not', async () => {
    await fetchTag('skip_verify = true');
    await assert.rejects(fetchTag(`${ca()}server = "https://other.example"`), /ALTNAME|altnames/);
  });

  it('that is trusted blindly does not make others trusted to which it redirects', async () => {
    await assert.rejects(fetchTag(`${ca()}skip_verify = true\nserver = "https://${host}/away"`), /ALTNAME|altnames/);
  });

  for (const [form, client] of [
    ['a file with both', '"both.pem"'],
    ['a list of files', '["both.pem"]'],
    ['pairs', '[["client.pem", "client.key"]]'],
    ['a pair without key', '[["both.pem", ""]]'],
  ] as const)
    it(`is shown the client certificate: ${form}`, async () => {
      const absolute = client.replaceAll(/"([\w.]+)"/g, (_, name: string) => JSON.stringify(join(dir, name)));
      await fetchTag(`${ca()}client = ${absolute}\n[header]\nX-Token = ["canary"]`);
      assert.deepEqual([shown, headers], [['node-7'], ['canary']]);
    });

  it('is known by bare files, too, as docker names them', async () => {
    const folder = join(dir, 'certs.d', host);
    mkdirSync(folder, { recursive: true });
    copyFileSync(join(dir, 'ca.pem'), join(folder, 'ca.crt'));
    copyFileSync(join(dir, 'client.pem'), join(folder, 'client.cert'));
    await assert.rejects(fetchTag(), { message: /client\.cert: there is no client\.key beside it/ });
    copyFileSync(join(dir, 'client.key'), join(folder, 'client.key'));
    await fetchTag();
    assert.deepEqual(shown, ['node-7']);
  });

  it('is explained, and the secret header is not told', async () => {
    await fetchTag(`${ca()}[header]\nX-Token = "canary"`);
    const [report] = await explainPull(ctx(), parseReference(`${host}/app:1`), undefined, options());
    assert.ok(report && !JSON.stringify(report).includes('canary'));
    assert.deepEqual(
      [report.used, report.answer.kind, report.tlsFiles, report.headers],
      [true, 'found', [join(dir, 'ca.pem')], ['X-Token']],
    );
    assert.match(report.security, /^https, the certificate is checked/);
  });
});
