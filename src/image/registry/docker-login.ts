import { randomBytes } from 'node:crypto';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BerthError, messageOf } from '../../base/errors';
import {
  fileOf,
  parseConfig,
  readConfig,
  runHelper,
  sameHost,
  serverKey,
  type DockerConfigOptions,
} from './docker-config';

export interface Login {
  readonly username: string;
  readonly password: string;
}

/**
 * Keeps a login in the docker config file, or in the credential helper that it names for the host. Everything else in the
 * file stays as it is. Says where it is kept.
 */
export async function keepLogin(host: string, login: Login, options: DockerConfigOptions): Promise<string> {
  const { path, json, helper } = await openConfig(host, options);
  if (helper !== '') {
    const input = JSON.stringify({ ServerURL: serverKey(host), Username: login.username, Secret: login.password });
    await askHelperTo('store', helper, host, input, options);
    return `docker-credential-${helper}, named in ${path}`;
  }
  const auth = Buffer.from(`${login.username}:${login.password}`).toString('base64');
  const auths = { ...withoutHost(json, host), [serverKey(host)]: { auth } };
  await writeConfig(path, { ...json, auths });
  return path;
}

/** Forgets a login; false when none was kept. */
export async function forgetLogin(host: string, options: DockerConfigOptions): Promise<boolean> {
  const { path, json, helper } = await openConfig(host, options);
  if (helper !== '') await askHelperTo('erase', helper, host, serverKey(host), options);
  const left = withoutHost(json, host);
  const wasKept = Object.keys(left).length < Object.keys(authsIn(json)).length;
  if (wasKept) await writeConfig(path, { ...json, auths: left });
  return wasKept || helper !== '';
}

async function openConfig(host: string, options: DockerConfigOptions) {
  const path = fileOf(options.file);
  if (path === undefined) {
    throw new BerthError('failed_precondition', 'this node keeps no credentials: registry.docker_config is "none"', {
      hint: 'set it to auto or to a path',
    });
  }
  const text = (await readConfig(path)) ?? '{}';
  const { credHelpers, credsStore } = parseConfig(text, path);
  const helper = Object.entries(credHelpers).find(([key]) => sameHost(key, host))?.[1] ?? credsStore;
  return { path, helper, json: JSON.parse(text) as Record<string, unknown> };
}

async function askHelperTo(
  action: 'store' | 'erase',
  helper: string,
  host: string,
  input: string,
  options: DockerConfigOptions,
): Promise<void> {
  const { status, failed } = await runHelper(helper, action, host, input, options);
  if (status !== 0) throw failed(status === undefined ? 'it was killed' : `it ended with status ${status}`);
}

function authsIn(json: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return (json['auths'] ?? {}) as Record<string, unknown>;
}

function withoutHost(json: Readonly<Record<string, unknown>>, host: string): Record<string, unknown> {
  return Object.fromEntries(Object.entries(authsIn(json)).filter(([key]) => !sameHost(key, host)));
}

/** Readable for its owner only, and whole at every moment. */
async function writeConfig(path: string, json: Readonly<Record<string, unknown>>): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFile(temporary, `${JSON.stringify(json, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw new BerthError('failed_precondition', `write ${path}: ${messageOf(error)}`, { cause: error });
  }
}
