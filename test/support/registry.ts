import { spawn, execFileSync, type ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { guard } from './guard';
import type { Blob, BuiltImage } from './image-builder';
import { patience } from './patience';

/** A real registry on a loopback port, with its data in a directory that goes with it. */
export interface Registry {
  /** `127.0.0.1:40123`, the first part of image names. */
  host: string;
  url: string;
  /** Where its blobs lie, for tests that damage them. */
  dataDir: string;
  /** `Basic …` when it asks for a password. */
  authorization: string | undefined;
  stop(): Promise<void>;
}

export interface RegistryOptions {
  /** It asks everybody for this name and password. */
  readonly htpasswd?: { username: string; password: string };
  /** Files with its certificate and key: then it speaks TLS, and nothing can be pushed to it from here. */
  readonly tls?: { certificate: string; key: string };
  /** The data of another one, instead of its own. */
  readonly dataDir?: string;
}

const ANSWERS_WITHIN_MS = 20_000 * patience;

/** Starts docker-registry. */
export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  const dir = mkdtempSync(join(tmpdir(), 'berth-registry-'));
  const host = `127.0.0.1:${await freePort()}`;
  const { htpasswd, tls, dataDir = join(dir, 'data') } = options;
  const url = `${tls ? 'https' : 'http'}://${host}`;
  writeFileSync(join(dir, 'config.yml'), configFile(dir, dataDir, host, options));
  if (htpasswd)
    writeFileSync(join(dir, 'htpasswd'), execFileSync('htpasswd', ['-Bbn', htpasswd.username, htpasswd.password]));
  const serve = ['docker-registry', 'serve', join(dir, 'config.yml')];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...serve], { stdio: 'ignore' });
  const stop = async () => {
    const exited = once(child, 'exit');
    if (child.exitCode === null && child.signalCode === null && child.kill('SIGKILL')) await exited;
    rmSync(dir, { recursive: true, force: true });
    release();
  };
  const release = guard(stop, ['rm', '-rf'], dir);
  try {
    await untilAnswering(url, child);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    host,
    url,
    dataDir,
    authorization: htpasswd && `Basic ${Buffer.from(`${htpasswd.username}:${htpasswd.password}`).toString('base64')}`,
    stop,
  };
}

/** Pushes an image and tags it; `index`, if given, gets the tag instead of the image's own manifest. */
export async function pushImage(
  registry: Registry,
  repository: string,
  tag: string,
  image: BuiltImage,
  index?: Blob,
): Promise<void> {
  for (const blob of [image.config, ...image.layers]) await pushBlob(registry, repository, blob.digest, blob.bytes);
  await pushManifest(registry, repository, index ? image.manifest.digest : tag, image.manifest);
  if (index) await pushManifest(registry, repository, tag, index);
}

export async function pushBlob(registry: Registry, repository: string, digest: string, bytes: Buffer): Promise<void> {
  const started = await ask(registry, `/v2/${repository}/blobs/uploads/`, { method: 'POST' });
  const location = new URL(started.headers.get('location') ?? '', registry.url);
  location.searchParams.set('digest', digest);
  await ask(registry, location.href, {
    method: 'PUT',
    body: new Uint8Array(bytes),
    headers: { 'content-type': 'application/octet-stream' },
  });
}

export async function pushManifest(
  registry: Registry,
  repository: string,
  which: string,
  manifest: Blob,
): Promise<void> {
  await ask(registry, `/v2/${repository}/manifests/${which}`, {
    method: 'PUT',
    body: new Uint8Array(manifest.bytes),
    headers: { 'content-type': manifest.mediaType },
  });
}

async function ask(
  registry: Registry,
  path: string,
  init: RequestInit & { headers?: Record<string, string> },
): Promise<Response> {
  const headers = { ...init.headers, ...(registry.authorization ? { authorization: registry.authorization } : {}) };
  const response = await fetch(new URL(path, registry.url), { ...init, headers });
  const body = await response.text();
  if (!response.ok) throw new Error(`${init.method ?? 'GET'} ${path}: ${response.status} ${body}`);
  return response;
}

async function untilAnswering(url: string, child: ChildProcess): Promise<void> {
  for (const until = Date.now() + ANSWERS_WITHIN_MS; Date.now() < until;) {
    if (child.exitCode !== null) throw new Error(`docker-registry ended with status ${child.exitCode}`);
    try {
      await (await fetch(`${url}/v2/`)).text();
      return;
    } catch (error) {
      // Nobody here trusts it, and that is an answer, too.
      if (error instanceof Error && /CERT|VERIFY/.test((error.cause as NodeJS.ErrnoException | undefined)?.code ?? ''))
        return;
      await sleep(20);
    }
  }
  throw new Error('docker-registry does not answer');
}

/** A port that nobody listens on. Below those that the kernel hands out, so nobody gets it by chance before it is used. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_000);
    const server = createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

function configFile(dir: string, dataDir: string, host: string, { htpasswd, tls }: RegistryOptions): string {
  const files = tls ? `, tls: {certificate: ${tls.certificate}, key: ${tls.key}}` : '';
  return [
    'version: 0.1',
    'log: {level: error}',
    `storage: {filesystem: {rootdirectory: ${dataDir}}, delete: {enabled: true}}`,
    `http: {addr: "${host}"${files}}`,
    ...(htpasswd ? [`auth: {htpasswd: {realm: berth, path: ${dir}/htpasswd}}`] : []),
    '',
  ].join('\n');
}
