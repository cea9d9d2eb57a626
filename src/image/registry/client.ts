import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Context } from '../../base/context';
import { BerthError, errnoOf, kindOf, messageOf, type ErrorKind } from '../../base/errors';
import { algorithmOf, digestOf, isDigest, type Digest } from '../digest';
import { acceptedManifests, documentBytesMax, tooLarge } from '../documents';
import { canonicalForm, type Reference } from '../reference';
import { Authorizer, parseChallenges, type RegistryAuth, type TokenRequest } from './auth';
import { endpointsFor, type Endpoint, type HostsOptions } from './hosts';
import type { HttpResponse, Transport } from './transport';

export interface FetchedManifest {
  readonly digest: Digest;
  readonly mediaType: string | undefined;
  readonly bytes: Buffer;
}

export interface RegistryOptions extends HostsOptions {
  readonly transport: Transport;
  /** The first pause before a request is tried again; it doubles. For tests. */
  readonly retryDelayMs?: number;
}

const attemptsMax = 4;
const retryAfterMaxMs = 30_000;
const errorBodyBytesMax = 8 * 1024;

/** Everything that one pull asks of registries: which endpoints there are, and what they were told about us. */
export class RegistryClient {
  private readonly authorizer: Authorizer;

  private constructor(
    private readonly reference: Reference,
    private readonly endpoints: readonly Endpoint[],
    auth: RegistryAuth | undefined,
    private readonly options: RegistryOptions,
  ) {
    this.authorizer = new Authorizer(auth, reference.host);
    this.hasAuth = auth !== undefined;
  }

  private readonly hasAuth: boolean;

  static async open(
    reference: Reference,
    auth: RegistryAuth | undefined,
    options: RegistryOptions,
  ): Promise<RegistryClient> {
    return new RegistryClient(reference, await endpointsFor(reference.host, options), auth, options);
  }

  /** The manifest or index of a tag or digest, its digest checked if it was asked for by digest. */
  async manifest(ctx: Context, which: string): Promise<FetchedManifest> {
    const resolves = !isDigest(which);
    return this.fromEndpoints(ctx, resolves ? 'canResolve' : 'canPull', async endpoint => {
      const response = await this.get(ctx, endpoint, `manifests/${which}`, { accept: acceptedManifests });
      const bytes = await readBounded(response.body, documentBytesMax, this.label(`the manifest ${which}`));
      const digest = digestOf(bytes, resolves ? 'sha256' : algorithmOf(which));
      return { digest, bytes, mediaType: contentType(response) };
    });
  }

  /** The bytes of a blob, as they arrive. Whoever takes the stream must read it to its end or destroy it. */
  async blob(ctx: Context, digest: Digest): Promise<Readable> {
    return this.fromEndpoints(
      ctx,
      'canPull',
      async endpoint => (await this.get(ctx, endpoint, `blobs/${digest}`, {})).body,
    );
  }

  /** A small blob in memory, its digest not checked yet. */
  async smallBlob(ctx: Context, digest: Digest): Promise<Buffer> {
    return readBounded(await this.blob(ctx, digest), documentBytesMax, this.label(`the blob ${digest}`));
  }

  /** Asks the endpoints in turn; the last one, the host itself, decides how it ends. */
  private async fromEndpoints<T>(
    ctx: Context,
    need: 'canPull' | 'canResolve',
    ask: (endpoint: Endpoint) => Promise<T>,
  ): Promise<T> {
    const able = this.endpoints.filter(endpoint => endpoint[need]);
    const failed: { endpoint: Endpoint; error: unknown }[] = [];
    for (const endpoint of able) {
      try {
        return await ask(endpoint);
      } catch (error) {
        ctx.throwIfEnded();
        failed.push({ endpoint, error });
      }
    }
    const last = failed.pop();
    if (!last)
      throw new BerthError(
        'failed_precondition',
        this.label(`no endpoint of ${this.reference.host} may ${need === 'canPull' ? 'pull' : 'resolve'}`),
      );
    if (failed.length === 0) throw last.error;
    const others = failed.map(({ endpoint, error }) => `${endpoint.origin} failed, too (${kindOf(error)})`).join(', ');
    throw new BerthError(kindOf(last.error), `${messageOf(last.error)}; ${others}`, { cause: last.error });
  }

  /** One GET below the repository; tried again while the registry is busy, asked to log in once. */
  private async get(
    ctx: Context,
    endpoint: Endpoint,
    what: string,
    headers: Record<string, string>,
  ): Promise<HttpResponse> {
    const url = new URL(`${endpoint.prefix}/${this.reference.repository}/${what}`, endpoint.origin);
    let challenged = false;
    const fetchToken = (at: URL, asked: TokenRequest) => this.fetchToken(ctx, at, asked);
    const response = await this.persist(ctx, url, async () => {
      const answer = await this.send(ctx, endpoint, url, headers);
      if (answer.statusCode !== 401 || challenged) return answer;
      challenged = true;
      const challenges = parseChallenges([answer.headers['www-authenticate'] ?? []].flat());
      const scope = `repository:${this.reference.repository}:pull`;
      if (!(await this.authorizer.answer(endpoint, challenges, scope, fetchToken))) return answer;
      await answer.body.dump();
      return this.send(ctx, endpoint, url, headers);
    });
    if (response.statusCode === 200) return response;
    throw await this.refusal(endpoint, url, response);
  }

  private send(ctx: Context, endpoint: Endpoint, url: URL, headers: Record<string, string>): Promise<HttpResponse> {
    return this.options.transport.send({
      method: 'GET',
      url,
      headers,
      authorization: this.authorizer.headerFor(endpoint),
      skipVerify: endpoint.skipVerify,
      signal: ctx.signal,
    });
  }

  private async fetchToken(ctx: Context, url: URL, asked: TokenRequest): Promise<string> {
    const response = await this.options.transport.send({
      method: asked.form ? 'POST' : 'GET',
      url,
      headers: asked.form ? { 'content-type': 'application/x-www-form-urlencoded' } : {},
      authorization: asked.authorization,
      ...(asked.form ? { body: asked.form.toString() } : {}),
      skipVerify: false,
      signal: ctx.signal,
    });
    if (response.statusCode !== 200) {
      const { statusCode } = response;
      const why = await reasonIn(response);
      const kind = statusCode === 429 || statusCode >= 500 ? 'unavailable' : 'unauthenticated';
      throw new BerthError(kind, this.label(`the token server ${url.origin} answered ${statusCode}${why}`), {
        hint: this.loginHint(),
      });
    }
    return tokenIn(await readBounded(response.body, documentBytesMax, this.label('the token')), url);
  }

  /** Sends until there is an answer that is worth having, or attempts run out. */
  private async persist(ctx: Context, url: URL, send: () => Promise<HttpResponse>): Promise<HttpResponse> {
    const startedAt = Date.now();
    for (let attempt = 1; ; attempt++) {
      ctx.throwIfEnded();
      const last = attempt === attemptsMax;
      let retryAfter: string | string[] | undefined;
      try {
        const response = await send();
        if (response.statusCode !== 429 && response.statusCode < 500) return response;
        const outcome = `answered ${response.statusCode}${await reasonIn(response)}`;
        if (last) throw this.unavailable(url, `${outcome} ${times(attempt)}`, startedAt);
        retryAfter = response.headers['retry-after'];
      } catch (error) {
        ctx.throwIfEnded();
        if (error instanceof BerthError) throw error;
        const { reason, fatal } = networkReason(error);
        if (last || fatal)
          throw this.unavailable(url, `failed: ${reason}${fatal ? '' : ` ${times(attempt)}`}`, startedAt, error);
      }
      await ctx.race(sleep(this.pauseMs(attempt, retryAfter), undefined, { signal: ctx.signal }));
    }
  }

  private pauseMs(attempt: number, retryAfter: string | string[] | undefined): number {
    const asked = typeof retryAfter === 'string' ? retryAfterMs(retryAfter) : undefined;
    if (asked !== undefined) return Math.min(asked, retryAfterMaxMs);
    const full = (this.options.retryDelayMs ?? 500) * 2 ** (attempt - 1);
    return full / 2 + (Math.random() * full) / 2; // so that a hundred nodes do not come back at once
  }

  private unavailable(url: URL, outcome: string, startedAt: number, cause?: unknown): BerthError {
    const seconds = Math.round((Date.now() - startedAt) / 1000);
    return new BerthError(
      'unavailable',
      this.label(`GET ${url.href} ${outcome}${seconds > 0 ? ` in ${seconds} s` : ''}`),
      {
        cause,
        hint: outcome.startsWith('answered')
          ? 'the node reaches the host, so check the registry'
          : "check the node's network and the registry's address",
      },
    );
  }

  private async refusal(endpoint: Endpoint, url: URL, response: HttpResponse): Promise<BerthError> {
    const { statusCode } = response;
    const kinds: Partial<Record<number, ErrorKind>> = {
      401: 'unauthenticated',
      403: 'permission_denied',
      404: 'not_found',
    };
    const where = new URL(endpoint.origin).host === this.reference.host ? url.pathname : url.href;
    const message = this.label(`GET ${where} answered ${statusCode}${await reasonIn(response)}`);
    const hint =
      statusCode === 404
        ? 'check the name and tag'
        : statusCode === 401 || statusCode === 403
          ? this.loginHint()
          : undefined;
    return new BerthError(kinds[statusCode] ?? 'unavailable', message, hint === undefined ? {} : { hint });
  }

  private loginHint(): string {
    if (!this.hasAuth) return 'no credentials were given: the name may be wrong, or the repository needs a login';
    const usable = this.endpoints.some(endpoint => this.authorizer.mayKnow(endpoint));
    return usable
      ? 'check the credentials that were given'
      : `the credentials that were given are for another host than ${this.reference.host}`;
  }

  private label(text: string): string {
    return `pull ${canonicalForm(this.reference)}: ${text}`;
  }
}

function contentType({ headers }: HttpResponse): string | undefined {
  const value = headers['content-type'];
  return typeof value === 'string' ? value.split(';', 1)[0]?.trim().toLowerCase() : undefined;
}

async function readBounded(body: Readable, max: number, what: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > max) throw tooLarge(what, length);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const errorShape = z.object({
  errors: z.array(z.object({ code: z.string().optional(), message: z.string().optional() })).min(1),
});

/** ` (manifest unknown)`: what the registry says, or nothing; reads the body to its end or gives it up. */
async function reasonIn(response: HttpResponse): Promise<string> {
  try {
    const bytes = await readBounded(response.body, errorBodyBytesMax, 'the answer');
    const [first] = errorShape.parse(JSON.parse(bytes.toString())).errors;
    const said = (first?.message || first?.code || '').replace(/[^\x20-\x7e]/g, ' ').slice(0, 200);
    return said ? ` (${said})` : '';
  } catch {
    return '';
  }
}

function tokenIn(bytes: Buffer, url: URL): string {
  const shape = z.object({ token: z.string().optional(), access_token: z.string().optional() });
  try {
    const { token, access_token } = shape.parse(JSON.parse(bytes.toString()));
    const found = token ?? access_token;
    if (found && /^[\x21-\x7e]+$/.test(found)) return found;
  } catch {
    // Said below, without what came: it may be a secret.
  }
  throw new BerthError('unavailable', `the token server ${url.origin} answered without a token`);
}

/** Milliseconds of a Retry-After header: seconds or a date (RFC 9110, 10.2.3). */
function retryAfterMs(value: string): number | undefined {
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}

/** Why there was no answer. A wrong certificate or an unknown name stays wrong: fatal. */
export function networkReason(error: unknown): { reason: string; fatal: boolean } {
  const inner = error instanceof AggregateError ? (error.errors as unknown[])[0] : error;
  const code = errnoOf(inner) ?? errnoOf(error);
  const message = messageOf(inner);
  const reason = code === undefined || message.includes(code) ? message : `${message} (${code})`;
  const fatal =
    code === 'ENOTFOUND' || /CERT|SELF_SIGNED|ERR_TLS|UNABLE_TO/.test(code ?? '') || /redirect/.test(message);
  return { reason, fatal };
}

function times(count: number): string {
  return count === 1
    ? 'once'
    : count === 2
      ? 'twice'
      : `${['no', 'one', 'two', 'three', 'four'][count] ?? count} times`;
}
