import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BerthError, isAbsent, messageOf } from '../../base/errors';
import { parseToml } from '../../base/toml';
import { parseUrl } from './url';

/** One place to ask for images of a host. */
export interface Endpoint {
  /** `https://registry.example:5000`, never with a path. */
  readonly origin: string;
  /** What stands before `/<repository>/manifests/…`: `/v2`, or what `override_path` says. */
  readonly prefix: string;
  readonly canPull: boolean;
  readonly canResolve: boolean;
  readonly skipVerify: boolean;
}

export interface HostsOptions {
  /** Holds `<host[:port]>/hosts.toml`; read anew at every pull, so that a change needs no restart. */
  readonly hostsDir: string | undefined;
  /** Hosts that speak plain HTTP; loopback hosts do so anyway. */
  readonly plainHttp: readonly string[];
}

const capability = z.enum(['pull', 'resolve', 'push']);
const settings = {
  capabilities: z.array(capability).default(['pull', 'resolve', 'push']),
  skip_verify: z.boolean().default(false),
  override_path: z.boolean().default(false),
};
const fileShape = z.strictObject({
  server: z.string().optional(),
  ...settings,
  host: z.record(z.string(), z.strictObject(settings)).default({}),
});

type Settings = Omit<z.output<typeof fileShape>, 'server' | 'host'>;

/** The endpoints for images of `host`, in the order they are to be tried; the host itself comes last. */
export async function endpointsFor(host: string, options: HostsOptions): Promise<Endpoint[]> {
  const own = `${speaksHttp(host, options.plainHttp) ? 'http' : 'https'}://${apiHost(host)}`;
  const path = options.hostsDir === undefined ? undefined : join(options.hostsDir, host, 'hosts.toml');
  const text = path === undefined ? undefined : await readIfPresent(path);
  if (path === undefined || text === undefined) return [toEndpoint(own, fileShape.parse({}), 'the default')];
  const { server, host: mirrors, ...rest } = parseHosts(text, path);
  return [
    ...Object.entries(mirrors).map(([url, mirror]) => toEndpoint(url, mirror, path)),
    toEndpoint(server ?? own, rest, path),
  ];
}

/** Docker Hub's images are named after one host and served by another. */
export function apiHost(host: string): string {
  return host === 'docker.io' ? 'registry-1.docker.io' : host;
}

/** Loopback is plain HTTP: nobody can listen there, and nobody has a certificate for it. */
function speaksHttp(host: string, plainHttp: readonly string[]): boolean {
  return plainHttp.includes(host) || isLoopback(host);
}

export function isLoopback(host: string): boolean {
  return /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/.test(host);
}

async function readIfPresent(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw new BerthError('failed_precondition', `read ${path}: ${messageOf(error)}`, { cause: error });
  }
}

function parseHosts(text: string, path: string): z.output<typeof fileShape> {
  let toml: unknown;
  try {
    toml = parseToml(text);
  } catch (error) {
    throw wrong(path, messageOf(error).split('\n', 1)[0] ?? 'it is not TOML', error);
  }
  const result = fileShape.safeParse(toml);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where = issue?.path.map(part => (/^\w+$/.test(String(part)) ? String(part) : JSON.stringify(part))).join('.');
  if (issue?.code === 'unrecognized_keys')
    throw wrong(path, `${[...(where ? [where] : []), issue.keys[0]].join('.')} is not a key that this berth knows`);
  throw wrong(path, `${where ?? ''}: ${issue?.message ?? 'it has the wrong shape'}`);
}

function toEndpoint(url: string, given: Settings, path: string): Endpoint {
  const parsed = parseUrl(url.includes('://') ? url : `https://${url}`);
  if (!parsed || parsed.username || parsed.search || parsed.hash)
    throw wrong(path, `${JSON.stringify(url)} is not an http or https URL without user, query and fragment`);
  const own = parsed.pathname.replace(/\/+$/, '');
  return {
    origin: parsed.origin,
    prefix: given.override_path || own.endsWith('/v2') ? own : `${own}/v2`,
    canPull: given.capabilities.includes('pull'),
    canResolve: given.capabilities.includes('resolve'),
    skipVerify: given.skip_verify,
  };
}

function wrong(path: string, why: string, cause?: unknown): BerthError {
  return new BerthError('failed_precondition', `read ${path}: ${why}`, { cause });
}
