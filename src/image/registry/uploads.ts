import { setTimeout as sleep } from 'node:timers/promises';
import type { Context } from '../../base/context';
import { BerthError, kindOf } from '../../base/errors';
import type { Digest } from '../digest';
import type { RegistryClient } from './client';
import type { Endpoint } from './hosts';
import type { HttpAnswer } from './http-messages';
import { parseUrl } from './url';

/** A blob that is here. */
export interface BlobFile {
  readonly digest: Digest;
  readonly bytes: number;
  readonly fd: number;
}

export interface PushedManifest {
  /** A tag or a digest. */
  readonly name: string;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

const UPLOAD_ATTEMPTS = 5;

/** How the distribution specification brings blobs and manifests into one repository. */
export class Uploads {
  private readonly endpoint: Endpoint;

  constructor(
    private readonly client: RegistryClient,
    private readonly retryDelayMs = 500,
  ) {
    this.endpoint = client.pushEndpoint();
  }

  /** Whether the registry says that it has the blob in this repository. */
  async has(ctx: Context, digest: Digest): Promise<boolean> {
    const url = this.url(`blobs/${digest}`);
    const answer = await this.client.pushRequest(ctx, this.endpoint, url, { method: 'HEAD' });
    if (answer.status === 200) return true;
    if (answer.status === 404) return false;
    throw this.client.pushRefusal(this.endpoint, 'HEAD', url, answer);
  }

  /** Takes the blob over from another repository of the same registry; false when it does not. */
  async mount(ctx: Context, digest: Digest, from: string): Promise<boolean> {
    const url = this.url('blobs/uploads/');
    url.searchParams.set('mount', digest);
    url.searchParams.set('from', from);
    const answer = await this.client.pushRequest(ctx, this.endpoint, url, { method: 'POST' });
    // 202 is the beginning of an upload that nobody goes on with: the registry forgets it. 403: no right to read there.
    if (answer.status === 201) return true;
    if ([202, 401, 403, 404, 405].includes(answer.status)) return false;
    throw this.client.pushRefusal(this.endpoint, 'POST', url, answer);
  }

  /** Sends the bytes, and after a broken connection the rest of them. `onBytes` hears how many there are by now. */
  async upload(ctx: Context, blob: BlobFile, onBytes: (done: number) => void): Promise<void> {
    let session = await this.begin(ctx);
    let offset = 0;
    for (let attempt = 1; ; attempt++) {
      try {
        session = await this.send(ctx, session, blob, offset, onBytes);
        return await this.finish(ctx, session, blob);
      } catch (error) {
        ctx.throwIfEnded();
        // Not found is what a registry says of an upload that it has forgotten, or that it has finished.
        if (attempt === UPLOAD_ATTEMPTS || !['unavailable', 'not_found'].includes(kindOf(error))) throw error;
        ctx.log.debug(`the upload of ${blob.digest} broke off and goes on: ${String(error)}`);
        await sleep(this.retryDelayMs * 2 ** (attempt - 1), undefined, { signal: ctx.signal });
        const arrived = await this.arrived(ctx, session);
        if (arrived === undefined && (await this.has(ctx, blob.digest))) return onBytes(blob.bytes);
        offset = arrived?.offset ?? 0;
        session = arrived?.session ?? (await this.begin(ctx));
        onBytes(offset);
      }
    }
  }

  /** Names the image. Returns the digest that the registry says it has. */
  async manifest(ctx: Context, { name, mediaType, bytes }: PushedManifest): Promise<string | undefined> {
    const url = this.url(`manifests/${name}`);
    const request = { method: 'PUT', body: new Uint8Array(bytes), headers: { 'content-type': mediaType } } as const;
    const answer = await this.client.pushRequest(ctx, this.endpoint, url, request);
    if (answer.status !== 201 && answer.status !== 200)
      throw this.client.pushRefusal(this.endpoint, 'PUT', url, answer);
    const digest = answer.headers['docker-content-digest'];
    return typeof digest === 'string' ? digest : undefined;
  }

  private async begin(ctx: Context): Promise<URL> {
    const url = this.url('blobs/uploads/');
    const answer = await this.client.pushRequest(ctx, this.endpoint, url, { method: 'POST' });
    if (answer.status !== 202) throw this.client.pushRefusal(this.endpoint, 'POST', url, answer);
    return this.next(url, answer);
  }

  private async send(
    ctx: Context,
    session: URL,
    { bytes, fd }: BlobFile,
    offset: number,
    onBytes: (done: number) => void,
  ): Promise<URL> {
    if (offset === bytes && bytes > 0) return session;
    const range: Record<string, string> = offset > 0 ? { 'content-range': `${offset}-${bytes - 1}` } : {};
    const answer = await this.client.pushRequest(ctx, this.endpoint, session, {
      method: 'PATCH',
      headers: { 'content-type': 'application/octet-stream', ...range },
      upload: { fd, offset, bytes: bytes - offset },
      onUploaded: sent => onBytes(offset + sent),
    });
    if (answer.status === 202 || answer.status === 204) return this.next(session, answer);
    throw this.client.pushRefusal(this.endpoint, 'PATCH', session, answer);
  }

  private async finish(ctx: Context, session: URL, { digest }: BlobFile): Promise<void> {
    const url = new URL(session);
    url.searchParams.set('digest', digest);
    const answer = await this.client.pushRequest(ctx, this.endpoint, url, { method: 'PUT' });
    if (answer.status !== 201) throw this.client.pushRefusal(this.endpoint, 'PUT', url, answer);
  }

  /** How far an upload has come, and where it goes on; undefined when the registry has forgotten it. */
  private async arrived(ctx: Context, session: URL): Promise<{ session: URL; offset: number } | undefined> {
    const answer = await this.client.pushRequest(ctx, this.endpoint, session, { method: 'GET' });
    if (answer.status !== 204) return undefined;
    const [, last] = /^(?:bytes=)?0-(\d+)$/.exec(String(answer.headers['range'] ?? '')) ?? [];
    // "0-0" is said of nothing and of one byte.
    if (last === undefined || last === '0') return undefined;
    return { session: this.next(session, answer), offset: Number(last) + 1 };
  }

  /** Where an upload goes on, as the registry says. Never from https to plain http. */
  private next(from: URL, { headers }: HttpAnswer): URL {
    const { location } = headers;
    const next = typeof location === 'string' ? parseUrl(location, from) : undefined;
    if (next && (from.protocol === 'http:' || next.protocol === 'https:')) return next;
    throw new BerthError('unavailable', `${this.endpoint.origin} sends an upload to ${JSON.stringify(location)}`, {
      hint: 'a registry behind a proxy has to know that it is reached by https (X-Forwarded-Proto)',
    });
  }

  private url(what: string): URL {
    return this.client.urlOf(this.endpoint, what);
  }
}
