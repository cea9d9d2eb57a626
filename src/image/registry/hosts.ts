import { readdir, readFile } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { z } from 'zod';
import { BerthError, isAbsent, messageOf } from '../../base/errors';
import { lineOfSyntaxError, parseToml } from '../../base/toml';
import { lineOfKey } from '../../config/line-of-key';
import { nearest } from '../../config/nearest';
import type { TlsMaterial } from './http-messages';
import { parseUrl } from './url';

/** One place to ask for images of a host. */
export interface Endpoint {
  /** `https://registry.example:5000`, never with a path. */
  readonly origin: string;
  /** What stands before `/<repository>/manifests/…`: `/v2`, or what `override_path` says. */
  readonly prefix: string;
  readonly canPull: boolean;
  readonly canResolve: boolean;
  readonly canPush: boolean;
  readonly skipVerify: boolean;
  /** Why it is asked: `the default`, or the file and line that name it. */
  readonly why: string;
  /** Sent to this origin only. They may be secrets. */
  readonly headers?: Readonly<Record<string, readonly string[]>>;
  readonly tls?: TlsMaterial;
  /** Where the certificates of `tls` came from. */
  readonly tlsFiles?: readonly string[];
  readonly connectTimeoutMs?: number;
  /** Tells a mirror whose image is meant, as containerd does: `?ns=docker.io`. */
  readonly namespace?: string;
}

export interface HostsOptions {
  /** Holds `<host[:port]>/hosts.toml`; read anew at every pull, so that a change needs no restart. */
  readonly hostsDir: string | undefined;
  /** Hosts that speak plain HTTP; loopback hosts do so anyway. */
  readonly plainHttp: readonly string[];
}

const duration = z
  .string()
  .regex(/^(?:\d+(?:\.\d+)?(?:h|ms|m|s))+$/, 'must be a duration such as "10s"')
  .transform(text => {
    const unitMs: Record<string, number> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };
    return [...text.matchAll(/([\d.]+)(h|ms|m|s)/g)].reduce(
      (sum, [, n, unit]) => sum + Number(n) * (unitMs[unit ?? ''] ?? 0),
      0,
    );
  });
const certificatePair = z.array(z.string()).min(1).max(2);
const settings = {
  capabilities: z.array(z.enum(['pull', 'resolve', 'push'])).default(['pull', 'resolve', 'push']),
  skip_verify: z.boolean().default(false),
  override_path: z.boolean().default(false),
  ca: z.union([z.string().transform(one => [one]), z.array(z.string())]).default([]),
  /** A file with certificate and key, several of those, or pairs of certificate and key. */
  client: z
    .union([
      z.string().transform(one => [[one]]),
      z.array(z.union([z.string().transform(one => [one]), certificatePair])),
    ])
    .default([]),
  header: z
    .record(
      z.string().regex(/^[\w!#$%&'*+.^`|~-]+$/),
      z.union([z.string().transform(one => [one]), z.array(z.string())]),
    )
    .default({}),
  dial_timeout: duration.optional(),
};
const hostKeys = Object.keys(settings);
const fileShape = z.strictObject({
  server: z.string().optional(),
  ...settings,
  host: z.record(z.string(), z.strictObject(settings)).default({}),
});

type Settings = Omit<z.output<typeof fileShape>, 'server' | 'host'>;

interface HostsFile {
  readonly path: string;
  readonly dir: string;
  readonly text: string;
}

/** The endpoints for images of `host`, in the order they are to be tried; the host itself comes last. */
export async function endpointsFor(host: string, { hostsDir, plainHttp }: HostsOptions): Promise<Endpoint[]> {
  const own = `${speaksHttp(host, plainHttp) ? 'http' : 'https'}://${apiHost(host)}`;
  const dir = hostsDir === undefined ? undefined : await directoryOf(host, hostsDir);
  const plain = await toEndpoint(own, fileShape.parse({}), host, 'the default', undefined);
  if (dir === undefined) return [plain];
  const path = join(dir, 'hosts.toml');
  const text = await readIfPresent(path);
  if (text === undefined) return [{ ...plain, ...(await bareCertificates(dir)) }];
  const file = { path, dir, text };
  const { server, host: mirrors, ...rest } = parseHosts(file);
  const line = (...key: string[]) => `${path}:${lineOfKey(text, key)}`;
  const endpoints: Endpoint[] = [];
  for (const [url, mirror] of Object.entries(mirrors))
    endpoints.push(await toEndpoint(url, mirror, host, line('host', url), file));
  const last = server === undefined ? 'the default' : line('server');
  endpoints.push(await toEndpoint(server ?? own, rest, host, last, file));
  return endpoints;
}

/** Docker Hub's images are named after one host and served by another. */
export function apiHost(host: string): string {
  return host === 'docker.io' ? 'registry-1.docker.io' : host;
}

function isLoopback(host: string): boolean {
  return /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/.test(host);
}

/** Loopback is plain HTTP: nobody can listen there, and nobody has a certificate for it. */
function speaksHttp(host: string, plainHttp: readonly string[]): boolean {
  return plainHttp.includes(host) || isLoopback(host);
}

/** `host:5000`, `host_5000_` (for file systems without colons), else `_default`. */
async function directoryOf(host: string, hostsDir: string): Promise<string | undefined> {
  for (const name of [host.replace(/:(\d+)$/, '_$1_'), host, '_default']) {
    const dir = join(hostsDir, name);
    if ((await namesIn(dir)) !== undefined) return dir;
  }
  return undefined;
}

async function namesIn(dir: string): Promise<string[] | undefined> {
  try {
    return (await readdir(dir)).sort();
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw wrong(dir, messageOf(error), error);
  }
}

async function readIfPresent(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw wrong(path, messageOf(error), error);
  }
}

function parseHosts({ text, path }: HostsFile): z.output<typeof fileShape> {
  let toml: unknown;
  try {
    toml = parseToml(text);
  } catch (error) {
    const why = messageOf(error).split('\n', 1)[0]?.replace('Invalid TOML document: ', '') ?? '';
    throw wrong(`${path}:${lineOfSyntaxError(error) ?? 1}`, `not valid TOML: ${why}`, error);
  }
  const result = fileShape.safeParse(toml);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const key = issue?.path ?? [];
  const at = (...more: PropertyKey[]) => `${path}:${lineOfKey(text, [...key, ...more])}`;
  if (issue?.code !== 'unrecognized_keys')
    throw wrong(at(), `${dotted(key)}: ${issue?.message ?? 'it has the wrong shape'}`);
  const [unknown = ''] = issue.keys;
  const meant = nearest(unknown, key.length === 0 ? ['server', 'host', ...hostKeys] : hostKeys);
  const hint = meant === undefined ? '' : `; did you mean ${JSON.stringify(meant)}?`;
  throw wrong(at(unknown), `${dotted([...key, unknown])} is not a key that this berth knows${hint}`);
}

function dotted(key: readonly PropertyKey[]): string {
  return key.map(part => (/^\w+$/.test(String(part)) ? String(part) : JSON.stringify(part))).join('.');
}

async function toEndpoint(
  url: string,
  given: Settings,
  host: string,
  why: string,
  file: HostsFile | undefined,
): Promise<Endpoint> {
  const parsed = parseUrl(url.includes('://') ? url : `https://${url}`);
  if (!parsed || parsed.username || parsed.search || parsed.hash)
    throw wrong(why, `${JSON.stringify(url)} is not an http or https URL without user, query and fragment`);
  const own = parsed.pathname.replace(/\/+$/, '');
  const isMirror = parsed.host !== host && parsed.host !== apiHost(host);
  return {
    origin: parsed.origin,
    prefix: given.override_path || own.endsWith('/v2') ? own : `${own}/v2`,
    canPull: given.capabilities.includes('pull'),
    canResolve: given.capabilities.includes('resolve'),
    canPush: given.capabilities.includes('push'),
    skipVerify: given.skip_verify,
    why,
    ...(file ? await certificates(given, why, file.dir) : {}),
    ...(Object.keys(given.header).length > 0 ? { headers: given.header } : {}),
    ...(given.dial_timeout === undefined ? {} : { connectTimeoutMs: given.dial_timeout }),
    ...(isMirror ? { namespace: host } : {}),
  };
}

type Certificates = Pick<Endpoint, 'tls' | 'tlsFiles'>;

async function certificates(
  { ca, client, skip_verify }: Pick<Settings, 'ca' | 'client' | 'skip_verify'>,
  why: string,
  dir: string,
): Promise<Certificates> {
  if (ca.length === 0 && client.length === 0 && !skip_verify) return {};
  const tlsFiles: string[] = [];
  const read = async (name: string) => {
    const path = isAbsolute(name) ? name : join(dir, name);
    tlsFiles.push(path);
    try {
      return await readFile(path, 'utf8');
    } catch (error) {
      throw wrong(why, `${path} cannot be read: ${messageOf(error)}`, error);
    }
  };
  const authorities: string[] = [];
  for (const name of ca) authorities.push(await read(name));
  const clients: TlsMaterial['clients'][number][] = [];
  for (const [certName = '', keyName = ''] of client) {
    const cert = await read(certName);
    clients.push({ cert, key: keyName === '' ? cert : await read(keyName) });
  }
  return { tls: { authorities, clients, skipVerify: skip_verify }, tlsFiles };
}

/** A folder without hosts.toml, as docker reads it: *.crt are authorities, *.cert with *.key are shown. */
async function bareCertificates(dir: string): Promise<Certificates> {
  const names = (await namesIn(dir)) ?? [];
  const client = names.filter(name => name.endsWith('.cert')).map(name => [name, name.replace(/\.cert$/, '.key')]);
  for (const [cert = '', key = ''] of client)
    if (!names.includes(key)) throw wrong(join(dir, cert), `there is no ${key} beside it`);
  return certificates({ ca: names.filter(name => name.endsWith('.crt')), client, skip_verify: false }, dir, dir);
}

function wrong(where: string, why: string, cause?: unknown): BerthError {
  return new BerthError('failed_precondition', `read ${where}: ${why}`, { cause });
}
