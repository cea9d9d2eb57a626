import { BlockList, isIP } from 'node:net';
import { parseUrl } from './url';

/** What the environment says about proxies, as it was when the program started. */
export interface ProxySettings {
  readonly http: string | undefined;
  readonly https: string | undefined;
  readonly none: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; the lower-case names win, as
 * with curl. A value without a scheme is an http proxy.
 */
export function proxySettings(environment: Environment = process.env): ProxySettings {
  const read = (name: string) => environment[name.toLowerCase()] || environment[name] || undefined;
  const all = read('ALL_PROXY');
  return { http: read('HTTP_PROXY') ?? all, https: read('HTTPS_PROXY') ?? all, none: read('NO_PROXY') ?? '' };
}

/** The proxy to ask for `url`, or undefined to go there directly. Throws when the environment names none that can be used. */
export function proxyFor(url: URL, settings: ProxySettings): URL | undefined {
  const named = url.protocol === 'https:' ? settings.https : settings.http;
  if (named === undefined || isExempt(url, settings.none)) return undefined;
  const proxy = parseUrl(named.includes('://') ? named : `http://${named}`);
  if (proxy) return proxy;
  throw Object.assign(new Error(`the environment's proxy for ${url.protocol}// is not an http or https URL`), {
    code: 'ERR_PROXY',
  });
}

/** The proxy as it may be shown: without user and password. */
export function shownProxy(proxy: URL): string {
  return proxy.origin;
}

/**
 * Loopback never goes through a proxy. NO_PROXY is a list of `*`, `host`,
 * `.suffix`, addresses and CIDR ranges, each with `:port` or without; a plain
 * host means the hosts below it, too.
 */
function isExempt(url: URL, none: string): boolean {
  const host = bare(url.hostname.toLowerCase()).replace(/\.$/, '');
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  if (isLoopbackHost(host)) return true;
  return none
    .split(/[\s,]+/)
    .filter(entry => entry !== '')
    .some(entry => entry === '*' || covers(entry.toLowerCase(), host, port));
}

function covers(entry: string, host: string, port: string): boolean {
  const range = /^(.+)\/(\d{1,3})$/.exec(entry);
  if (range) return isInRange(host, bare(range[1] ?? ''), Number(range[2]));
  const [, name = '', entryPort] = isIP(entry) ? [entry, entry] : (/^(.*?)(?::(\d+))?$/.exec(entry) ?? []);
  if (entryPort !== undefined && Number(entryPort) !== Number(port)) return false;
  const wanted = bare(name);
  if (isIP(wanted)) return isIP(host) === isIP(wanted) && isInRange(host, wanted, isIP(wanted) === 4 ? 32 : 128);
  const suffix = wanted.replace(/^\*?\./, '');
  if (suffix === '') return false;
  return host.endsWith(`.${suffix}`) || (suffix === wanted && host === suffix);
}

function isInRange(host: string, network: string, bits: number): boolean {
  const family = isIP(network) === 4 ? 'ipv4' : 'ipv6';
  if (isIP(host) === 0 || isIP(network) !== isIP(host) || bits > (family === 'ipv4' ? 32 : 128)) return false;
  const list = new BlockList();
  list.addSubnet(network, bits, family);
  return list.check(host, family);
}

function isLoopbackHost(host: string): boolean {
  return host === 'localhost' || (isIP(host) === 4 && host.startsWith('127.')) || host === '::1';
}

function bare(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}
