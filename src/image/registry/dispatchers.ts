import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { createSecureContext, rootCertificates, type SecureContext, type SecureContextOptions } from 'node:tls';
import { Agent, ProxyAgent, type Dispatcher } from 'undici';
import { withoutSecrets, type HttpRequest, type TlsMaterial } from './http-messages';
import { proxyFor } from './proxies';

const connectTimeoutMs = 15_000;
const dispatchersMax = 64;

/** Where Linux distributions keep the authorities that the machine trusts. */
const systemBundles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** Connections, kept alive and shared by all who ask with the same proxy and the same certificates. */
export class Dispatchers {
  private readonly known = new Map<string, Dispatcher>();

  /** `isOwn`: the origin is the one that was asked for, and so may see what is for it alone. */
  for(url: URL, asked: HttpRequest, isOwn: boolean): Dispatcher {
    const proxy = proxyFor(url, asked.proxies);
    const tls = isOwn ? asked.tls : asked.tls && withoutSecrets(asked.tls);
    const timeout = asked.connectTimeoutMs ?? connectTimeoutMs;
    const secure = url.protocol === 'https:' || proxy?.protocol === 'https:';
    const bundle = secure ? systemBundle() : undefined;
    const key = createHash('sha256')
      .update(JSON.stringify([secure, proxy?.href, secure && tls, timeout, bundle?.key]))
      .digest('base64');
    const found = this.known.get(key);
    this.known.delete(key); // the map's order is that of use
    const dispatcher = found ?? make(proxy, secure ? connectOptions(tls, bundle) : {}, timeout);
    this.known.set(key, dispatcher);
    this.limit();
    return dispatcher;
  }

  async close(): Promise<void> {
    const all = [...this.known.values()];
    this.known.clear();
    await Promise.all(all.map(dispatcher => dispatcher.destroy()));
  }

  private limit(): void {
    const [oldest] = this.known;
    if (this.known.size <= dispatchersMax || !oldest) return;
    this.known.delete(oldest[0]);
    oldest[1].close().catch(() => undefined); // ends once its requests have
  }
}

function make(proxy: URL | undefined, tls: TlsOptions, timeout: number): Dispatcher {
  const common = { maxHeaderSize: 64 * 1024, bodyTimeout: 0 };
  if (!proxy) return new Agent({ ...common, connect: { ...tls, timeout } });
  const { username, password } = proxy;
  const user = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const token = username === '' ? {} : { token: `Basic ${Buffer.from(user).toString('base64')}` };
  const { ca } = tls;
  return new ProxyAgent({
    ...common,
    ...token,
    uri: proxy.origin,
    proxyTunnel: false,
    requestTls: { ...tls, timeout },
    proxyTls: { ...(ca === undefined ? {} : { ca }), timeout },
  });
}

interface TlsOptions {
  ca?: string[];
  secureContext?: SecureContext;
  rejectUnauthorized?: boolean;
}

function connectOptions(tls: TlsMaterial | undefined, bundle: SystemBundle | undefined): TlsOptions {
  const ca = [bundle?.text ?? [...rootCertificates], ...(tls?.authorities ?? [])].flat();
  const given: SecureContextOptions = {
    ca,
    cert: tls?.clients.map(({ cert }) => cert) ?? [],
    key: tls?.clients.map(({ key }) => key) ?? [],
  };
  // Made once: parsing all those certificates takes longer than a handshake.
  return { ca, secureContext: createSecureContext(given), rejectUnauthorized: !tls?.skipVerify };
}

interface SystemBundle {
  readonly key: string;
  readonly text: string;
}

let lastBundle: SystemBundle | undefined;

/** The machine's own authorities, read again when the file has changed; undefined where there is none. */
function systemBundle(): SystemBundle | undefined {
  for (const path of [process.env.SSL_CERT_FILE ?? '', ...systemBundles]) {
    const stat = path === '' ? undefined : statSync(path, { throwIfNoEntry: false });
    if (!stat?.isFile()) continue;
    const key = `${path} ${stat.mtimeMs} ${stat.size}`;
    if (lastBundle?.key !== key) lastBundle = { key, text: readFileSync(path, 'utf8') };
    return lastBundle;
  }
  return undefined;
}
