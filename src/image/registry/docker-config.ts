import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BerthError, errnoOf, isAbsent, messageOf } from '../../base/errors';
import { runProgram } from '../../native/run-program';
import type { RegistryAuth, StoredAuth } from './auth';

const fileBytesMax = 1024 * 1024;
const helperTimeoutMs = 15_000;
const helperBytesMax = 64 * 1024;
const safePath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const dockerHubKey = 'https://index.docker.io/v1/';

const fileShape = z.object({
  auths: z
    .record(
      z.string(),
      z.object({
        auth: z.string().optional(),
        username: z.string().optional(),
        password: z.string().optional(),
        identitytoken: z.string().optional(),
        registrytoken: z.string().optional(),
      }),
    )
    .default({}),
  credHelpers: z.record(z.string(), z.string()).default({}),
  credsStore: z.string().default(''),
});
const helperShape = z.object({ Username: z.string(), Secret: z.string() });

export interface DockerConfigOptions {
  /** `auto`: $DOCKER_CONFIG/config.json or root's; `none`; or a path. */
  readonly file: string;
  /** Where docker-credential-* are looked for, in this order, and nowhere else. */
  readonly helperDirs: readonly string[];
  readonly helperTimeoutMs?: number;
}

/** What the node's docker config file has for a host (`registry.example:5000`, `docker.io`); read anew each time. */
export async function storedAuth(host: string, options: DockerConfigOptions): Promise<StoredAuth | undefined> {
  const path = fileOf(options.file);
  const text = path === undefined ? undefined : await readConfig(path);
  if (path === undefined || text === undefined) return undefined;
  const config = parseConfig(text, path);
  const isHost = ([key]: [string, unknown]) => sameHost(key, host);
  const helper = Object.entries(config.credHelpers).find(isHost)?.[1] ?? config.credsStore;
  const entry = Object.entries(config.auths).find(isHost);
  if (helper !== '') {
    const auth = await askHelper(helper, host, options);
    if (auth) return { auth, source: `docker-credential-${helper}, named in ${path}` };
  }
  if (!entry) return undefined;
  const { auth, username, password, identitytoken, registrytoken } = entry[1];
  if (!auth && !username && !identitytoken && !registrytoken) return undefined;
  const given: RegistryAuth = {
    ...(auth ? { auth } : {}),
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
    ...(identitytoken ? { identityToken: identitytoken } : {}),
    ...(registrytoken ? { registryToken: registrytoken } : {}),
  };
  return { auth: given, source: `auths[${JSON.stringify(entry[0])}] of ${path}` };
}

/** Whether the file holds credentials for anybody. One that cannot be read may. */
export async function storesCredentials({ file }: DockerConfigOptions): Promise<boolean> {
  const path = fileOf(file);
  try {
    const text = path === undefined ? undefined : await readConfig(path);
    if (path === undefined || text === undefined) return false;
    const { auths, credHelpers, credsStore } = parseConfig(text, path);
    return credsStore !== '' || Object.keys(auths).length + Object.keys(credHelpers).length > 0;
  } catch {
    return true; // the pull says why, should it need them
  }
}

export function fileOf(file: string): string | undefined {
  if (file === 'none') return undefined;
  return file === 'auto' ? join(process.env.DOCKER_CONFIG || '/root/.docker', 'config.json') : file;
}

export async function readConfig(path: string): Promise<string | undefined> {
  try {
    if ((await stat(path)).size > fileBytesMax) throw new Error(`it is larger than ${fileBytesMax} bytes`);
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw new BerthError('failed_precondition', `read ${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** Neither the text nor the parser's error is repeated: both may hold secrets. */
export function parseConfig(text: string, path: string): z.output<typeof fileShape> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new BerthError('failed_precondition', `read ${path}: it is not JSON`);
  }
  const result = fileShape.safeParse(json);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new BerthError('failed_precondition', `read ${path}: ${issue?.path.join('.')} has the wrong type`);
}

/** Keys are hosts, or URLs of which the host counts; Docker Hub has more names than one. */
export function sameHost(key: string, host: string): boolean {
  const plain = (key.replace(/^https?:\/\//, '').split('/', 1)[0] ?? '').toLowerCase();
  const hub = ['docker.io', 'index.docker.io', 'registry-1.docker.io'];
  return plain === host.toLowerCase() || (hub.includes(plain) && hub.includes(host));
}

/** undefined when the helper has nothing for the host. */
async function askHelper(
  name: string,
  host: string,
  { helperDirs, helperTimeoutMs: timeoutMs = helperTimeoutMs }: DockerConfigOptions,
): Promise<RegistryAuth | undefined> {
  const outcome = await runHelper(name, 'get', host, serverKey(host), { helperDirs, helperTimeoutMs: timeoutMs });
  if (outcome.status !== 0) {
    // What a helper says when it has nothing is part of its protocol.
    if (/credentials not found|no credentials/i.test(outcome.stdout)) return undefined;
    throw outcome.failed(outcome.status === undefined ? 'it was killed' : `it ended with status ${outcome.status}`);
  }
  try {
    const { Username, Secret } = helperShape.parse(JSON.parse(outcome.stdout));
    return Username === '<token>' ? { identityToken: Secret } : { username: Username, password: Secret };
  } catch {
    throw outcome.failed('its answer is not the JSON of a credential helper');
  }
}

/** What a host's credentials are kept under. */
export function serverKey(host: string): string {
  return host === 'docker.io' || host === 'registry-1.docker.io' ? dockerHubKey : host;
}

/** Runs a credential helper; what it ends with is for the caller to judge. */
export async function runHelper(
  name: string,
  action: 'get' | 'store' | 'erase',
  host: string,
  input: string,
  { helperDirs, helperTimeoutMs: timeoutMs = helperTimeoutMs }: Omit<DockerConfigOptions, 'file'>,
) {
  const program = `docker-credential-${name}`;
  const failed = (why: string, hint?: string) =>
    new BerthError('failed_precondition', `${program} ${action} ${host}: ${why}`, hint === undefined ? {} : { hint });
  if (!/^[\w.-]+$/.test(name)) throw failed('the name of the helper has characters that no helper has');
  const path = await found(program, helperDirs);
  if (path === undefined) throw failed(`there is no such program in ${helperDirs.join(', ')}`, 'install it');
  const env = { PATH: safePath, HOME: process.env.HOME || '/root' };
  const outcome = await runProgram(path, [action], {
    input,
    env,
    timeoutMs,
    outputBytesMax: helperBytesMax,
  }).catch((error: unknown) => {
    throw failed(`it cannot be started (${errnoOf(error) ?? 'unknown'})`);
  });
  if (outcome.timedOut) throw failed(`no answer within ${timeoutMs / 1000} s`);
  if (outcome.tooLong) throw failed(`it says more than ${helperBytesMax} bytes`);
  return { ...outcome, failed };
}

async function found(program: string, dirs: readonly string[]): Promise<string | undefined> {
  for (const dir of dirs) {
    const path = join(dir, program);
    if ((await stat(path).catch(() => undefined))?.isFile()) return path;
  }
  return undefined;
}
