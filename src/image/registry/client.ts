import { closeSync } from 'node:fs';
import { z } from 'zod';
import type { Context } from '../../base/context';
import { BerthError, errnoOf, kindOf, messageOf, type ErrorKind } from '../../base/errors';
import { algorithmOf, digestOf, isDigest, type Digest } from '../digest';
import { acceptedManifests, documentBytesMax, tooLarge } from '../documents';
import { canonicalForm, type Reference } from '../reference';
import type { BlobBytes } from '../source';
import { Authorizer, parseChallenges, type RegistryAuth, type StoredAuth, type Token, type TokenRequest } from './auth';
import { endpointsFor, type Endpoint, type HostsOptions } from './hosts';
import { withoutSecrets, type HttpAnswer } from './http-messages';
import { isBusy, networkReason, pause, times } from './retry';
import type { Sendable, StreamedAnswer, Transport } from './transport';
import { parseUrl } from './url';

export { networkReason } from './retry';

/** A request of a push, beside where it goes. */
export type PushRequest = Pick<Sendable, 'method' | 'body' | 'upload'> & {
  readonly headers?: Readonly<Record<string, string>>;
  readonly onUploaded?: (bytes: number) => void;
};

type Exchange = Omit<PushRequest, 'onUploaded'> & {
  readonly attempts: number;
  /** What the token has to allow. */
  readonly scope: 'pull' | 'pull,push' | 'login';
  /** Goes to the endpoint itself, and not to where it has sent us. */
  readonly isOwn: boolean;
};

export interface FetchedManifest {
  readonly digest: Digest;
  readonly mediaType: string | undefined;
  readonly bytes: Buffer;
}

export interface RegistryOptions extends HostsOptions {
  readonly transport: Transport;
  /** The node's own credentials for a host, besides those of the request. */
  readonly storedFor?: (host: string) => Promise<StoredAuth | undefined>;
  /** The first pause before a request is tried again; it doubles. For tests. */
  readonly retryDelayMs?: number;
}

const attemptsMax = 4;
/** What of 400 to 499 may be otherwise the next time. */
const passing: ReadonlySet<number> = new Set([408, 416, 425, 429]);
/** Where somebody else can be asked, too. */
const attemptsWithOthers = 2;

/** Everything that one pull asks of registries: which endpoints there are, and what they were told about us. */
export class RegistryClient {
  private readonly authorizer: Authorizer;
  private readonly hasAuth: boolean;
  /** Endpoints that failed during this pull: asked last from then on, for everything ('') or for one blob. */
  private readonly failing = new Map<string, Set<Endpoint>>();

  private constructor(
    private readonly reference: Reference,
    readonly endpoints: readonly Endpoint[],
    auth: RegistryAuth | undefined,
    private readonly options: RegistryOptions,
    private readonly verb: 'pull' | 'push' | 'login',
  ) {
    this.authorizer = new Authorizer(auth, reference.host, options.storedFor);
    this.hasAuth = auth !== undefined;
  }

  static async open(
    reference: Reference,
    auth: RegistryAuth | undefined,
    options: RegistryOptions,
    verb: 'pull' | 'push' | 'login' = 'pull',
  ): Promise<RegistryClient> {
    return new RegistryClient(reference, await endpointsFor(reference.host, options), auth, options, verb);
  }

  /** The one place that takes images: the last endpoint that may be pushed to, which is mostly the host itself. */
  pushEndpoint(): Endpoint {
    const endpoint = this.endpoints.filter(({ canPush }) => canPush).at(-1);
    if (endpoint) return endpoint;
    throw new BerthError('failed_precondition', this.label(`no endpoint of ${this.reference.host} may push`), {
      hint: 'see the capabilities in its hosts.toml',
    });
  }

  /**
   * One request of a push. It is tried again while the registry is busy, unless it uploads: who uploads asks first how
   * much has come. `url` may be one that the registry has named; another origin gets no credentials.
   */
  async pushRequest(ctx: Context, endpoint: Endpoint, url: URL, request: PushRequest): Promise<HttpAnswer> {
    const isOwn = url.origin === endpoint.origin;
    const { onUploaded, ...parts } = request;
    const attempts = request.upload ? 1 : attemptsMax;
    return this.exchange(ctx, endpoint, url, { ...parts, attempts, scope: 'pull,push', isOwn }, one =>
      this.options.transport.send({ ...one, bodyBytesMax: documentBytesMax }, ctx.signal, onUploaded),
    );
  }

  /** Asks the registry itself whether it knows us; throws `unauthenticated` when it does not. */
  async checkLogin(ctx: Context): Promise<void> {
    const endpoint = this.endpoints.at(-1);
    if (!endpoint) throw new BerthError('internal', this.label('a host without endpoints'));
    const url = new URL(`${endpoint.prefix}/`, endpoint.origin);
    const request = { method: 'GET', attempts: attemptsWithOthers, scope: 'login', isOwn: true } as const;
    const answer = await this.exchange(ctx, endpoint, url, request, one =>
      this.options.transport.send({ ...one, bodyBytesMax: documentBytesMax }, ctx.signal),
    );
    if (answer.status === 200 && answer.origin === url.origin) return;
    throw this.refusal(endpoint, url, answer);
  }

  /** The sentence of an answer that is none of those wanted. */
  pushRefusal(endpoint: Endpoint, method: string, url: URL, answer: HttpAnswer): BerthError {
    const { status } = answer;
    if (status < 400 || status >= 500 || passing.has(status)) return this.refusal(endpoint, url, answer, method);
    const hint =
      status === 413 ? 'the registry, or a proxy before it, has a limit for what it takes at once' : undefined;
    return this.refusal(endpoint, url, answer, method, { kind: 'failed_precondition', hint });
  }

  /** The manifest or index of a tag or digest, its digest checked if it was asked for by digest. */
  async manifest(ctx: Context, which: string): Promise<FetchedManifest> {
    const need = isDigest(which) ? 'canPull' : 'canResolve';
    return this.fromEndpoints(ctx, need, '', (endpoint, attempts) => this.manifestFrom(ctx, endpoint, which, attempts));
  }

  /** The manifest as one endpoint has it; for `explain`, too. */
  async manifestFrom(ctx: Context, endpoint: Endpoint, which: string, attempts: number): Promise<FetchedManifest> {
    const asked = { headers: { accept: acceptedManifests }, bodyBytesMax: documentBytesMax };
    const answer = await this.get(ctx, endpoint, `manifests/${which}`, attempts, one =>
      this.options.transport.send({ ...one, ...asked }, ctx.signal),
    );
    if (answer.status !== 200) throw this.refusal(endpoint, this.urlOf(endpoint, `manifests/${which}`), answer);
    if (answer.tooLong) throw tooLarge(this.label(`the manifest ${which}`), documentBytesMax + 1);
    const bytes = Buffer.from(answer.body);
    const digest = digestOf(bytes, isDigest(which) ? algorithmOf(which) : 'sha256');
    if (isDigest(which) && digest !== which)
      throw new BerthError(
        'data_loss',
        this.label(`the manifest ${which} of ${endpoint.origin} has digest ${digest}, and ${which} was asked for`),
      );
    return { digest, bytes, mediaType: contentType(answer) };
  }

  credentialsFor(endpoint: Endpoint): Promise<StoredAuth | undefined> {
    return this.authorizer.credentialsFor(endpoint);
  }

  /** See `ImageSource`. */
  async blob(ctx: Context, digest: Digest, offset: number, urls: readonly string[] = []): Promise<BlobBytes> {
    const what = `blobs/${digest}`;
    try {
      return await this.fromEndpoints(ctx, 'canPull', digest, async (endpoint, attempts) => {
        const answer = await this.ranged(ctx, offset, from =>
          this.get(ctx, endpoint, what, attempts, one => this.openRange(ctx, one, from)),
        );
        const failed = () => this.markFailing(digest, endpoint);
        if (answer.status === 416) return emptyBlob(offset, endpoint.origin);
        if (answer.streamed) return toBlob(answer, offset, endpoint.origin, failed);
        throw this.refusal(endpoint, this.urlOf(endpoint, what), answer);
      });
    } catch (error) {
      if (urls.length === 0 || kindOf(error) !== 'not_found') throw error;
      return await this.foreignBlob(ctx, urls, offset, error);
    }
  }

  /** See `ImageSource`. */
  hasOther(digest: Digest): boolean {
    return this.endpoints.some(endpoint => endpoint.canPull && !this.isFailing(endpoint, digest));
  }

  /** A small blob in memory. */
  async smallBlob(ctx: Context, digest: Digest): Promise<Buffer> {
    const what = `blobs/${digest}`;
    return this.fromEndpoints(ctx, 'canPull', '', async (endpoint, attempts) => {
      const answer = await this.get(ctx, endpoint, what, attempts, one =>
        this.options.transport.send({ ...one, bodyBytesMax: documentBytesMax }, ctx.signal),
      );
      if (answer.status !== 200) throw this.refusal(endpoint, this.urlOf(endpoint, what), answer);
      if (answer.tooLong) throw tooLarge(this.label(`the blob ${digest}`), documentBytesMax + 1);
      const bytes = Buffer.from(answer.body);
      const found = digestOf(bytes, algorithmOf(digest));
      if (found === digest) return bytes;
      throw new BerthError('data_loss', this.label(`the config ${digest} of ${endpoint.origin} has digest ${found}`));
    });
  }

  /* ---- blobs ---- */

  private openRange(ctx: Context, one: Sendable, from: number): Promise<StreamedAnswer> {
    const headers: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {};
    return this.options.transport.open({ ...one, headers }, ctx.signal);
  }

  /** Asks for the rest. Whoever answers with another range is asked for the whole. The digest has the last word anyway. */
  private async ranged(
    ctx: Context,
    offset: number,
    open: (from: number) => Promise<StreamedAnswer>,
  ): Promise<StreamedAnswer> {
    const answer = await open(offset);
    if (offset > 0 && (isRest(answer, offset) || isPastEnd(answer, offset))) return answer;
    if (answer.status === 206 || (offset > 0 && answer.status === 416)) {
      answer.drop();
      ctx.log.debug(`asked for bytes ${offset}-, and got ${rangeOf(answer)}; the whole is asked for`);
      if (offset > 0) return await this.ranged(ctx, 0, open);
      throw new BerthError('unavailable', this.label(`the whole blob was asked for, and ${rangeOf(answer)} came`));
    }
    return answer;
  }

  /** A foreign layer: from where its descriptor says, without credentials and only by https. */
  private async foreignBlob(
    ctx: Context,
    urls: readonly string[],
    offset: number,
    notHere: unknown,
  ): Promise<BlobBytes> {
    const reasons: string[] = [];
    for (const url of urls.map(text => parseUrl(text))) {
      if (url?.protocol !== 'https:') continue;
      try {
        const answer = await this.ranged(ctx, offset, from =>
          this.openRange(ctx, { method: 'GET', url: url.href, headers: {}, bodyBytesMax: 0 }, from),
        );
        if (answer.status === 416) return emptyBlob(offset, url.origin);
        if (answer.streamed) return toBlob(answer, offset, url.origin, () => undefined);
        reasons.push(`${url.origin} answered ${answer.status}`);
      } catch (error) {
        ctx.throwIfEnded();
        reasons.push(`${url.origin}: ${networkReason(error).reason}`);
      }
    }
    throw new BerthError('unavailable', `${messageOf(notHere)}; foreign: ${reasons.join(', ') || 'no https URL'}`);
  }

  /* ---- endpoints ---- */

  /** Asks the endpoints in turn; the host itself, which is last, decides how it ends. */
  private async fromEndpoints<T>(
    ctx: Context,
    need: 'canPull' | 'canResolve',
    blob: string,
    ask: (endpoint: Endpoint, attempts: number) => Promise<T>,
  ): Promise<T> {
    const able = this.endpoints.filter(endpoint => endpoint[need]);
    const inTurn = able.slice().sort((a, b) => Number(this.isFailing(a, blob)) - Number(this.isFailing(b, blob)));
    const errors = new Map<Endpoint, unknown>();
    for (const endpoint of inTurn) {
      try {
        return await ask(endpoint, endpoint === inTurn.at(-1) ? attemptsMax : attemptsWithOthers);
      } catch (error) {
        ctx.throwIfEnded();
        errors.set(endpoint, error);
        if (kindOf(error) === 'unavailable') this.markFailing('', endpoint);
      }
    }
    const last = able.at(-1);
    if (!last)
      throw new BerthError(
        'failed_precondition',
        this.label(`no endpoint of ${this.reference.host} may ${need === 'canPull' ? 'pull' : 'resolve'}`),
      );
    const decisive = errors.get(last);
    if (able.length === 1) throw decisive;
    const others = able.slice(0, -1).map(one => `${one.origin}: ${this.unlabelled(messageOf(errors.get(one)))}`);
    throw new BerthError(kindOf(decisive), `${messageOf(decisive)}; the mirrors failed, too: ${others.join('; ')}`, {
      cause: decisive,
    });
  }

  private isFailing(endpoint: Endpoint, blob: string): boolean {
    return ['', blob].some(what => this.failing.get(what)?.has(endpoint));
  }

  private markFailing(blob: string, endpoint: Endpoint): void {
    const set = this.failing.get(blob) ?? new Set();
    this.failing.set(blob, set.add(endpoint));
  }

  urlOf(endpoint: Endpoint, what: string): URL {
    const url = new URL(`${endpoint.prefix}/${this.reference.repository}/${what}`, endpoint.origin);
    if (endpoint.namespace !== undefined) url.searchParams.set('ns', endpoint.namespace);
    return url;
  }

  /** One GET below the repository. */
  private get<Answer extends HttpAnswer>(
    ctx: Context,
    endpoint: Endpoint,
    what: string,
    attempts: number,
    send: (one: Sendable) => Promise<Answer>,
  ): Promise<Answer> {
    const request = { method: 'GET', attempts, scope: 'pull', isOwn: true } as const;
    return this.exchange(ctx, endpoint, this.urlOf(endpoint, what), request, send);
  }

  /** One request; tried again while the registry is busy, asked to log in once. */
  private async exchange<Answer extends HttpAnswer>(
    ctx: Context,
    endpoint: Endpoint,
    url: URL,
    { attempts, scope: actions, isOwn, ...parts }: Exchange,
    send: (one: Sendable) => Promise<Answer>,
  ): Promise<Answer> {
    const once = async () => {
      const authorization = isOwn ? this.authorizer.headerFor(endpoint) : undefined;
      const { headers: ownHeaders, tls, connectTimeoutMs } = endpoint;
      const answer = await send({
        headers: {},
        ...parts,
        url: url.href,
        ...(ownHeaders && isOwn ? { ownHeaders } : {}),
        authorization,
        tls: tls && (isOwn ? tls : withoutSecrets(tls)),
        connectTimeoutMs,
        bodyBytesMax: 0,
      });
      return { answer, authorization };
    };
    const fetchToken = (at: URL, asked: TokenRequest) => this.fetchToken(ctx, endpoint, at, asked);
    let challenged = !isOwn;
    return this.persist(ctx, parts.method, url, attempts, async () => {
      const { answer, authorization } = await once();
      // Who was reached by a redirect may not ask for credentials: they would go where it says (CVE-2020-15157).
      if (answer.status !== 401 || challenged || answer.origin !== url.origin) return answer;
      challenged = true;
      const challenges = parseChallenges([answer.headers['www-authenticate'] ?? []].flat());
      const scope = actions === 'login' ? '' : `repository:${this.reference.repository}:${actions}`;
      if (!(await this.authorizer.answer(endpoint, challenges, scope, authorization, fetchToken))) return answer;
      return (await once()).answer;
    });
  }

  private async fetchToken(
    ctx: Context,
    endpoint: Endpoint,
    url: URL,
    asked: TokenRequest,
  ): Promise<Token | undefined> {
    const { tls } = endpoint;
    const isOwn = url.origin === endpoint.origin;
    const method = asked.form ? 'POST' : 'GET';
    const answer = await this.persist(ctx, method, url, attemptsMax, () =>
      this.options.transport.send(
        {
          method,
          url: url.href,
          headers: asked.form ? { 'content-type': 'application/x-www-form-urlencoded' } : {},
          authorization: asked.authorization,
          ...(asked.form ? { body: asked.form.toString() } : {}),
          tls: tls && (isOwn ? tls : withoutSecrets(tls)),
          bodyBytesMax: documentBytesMax,
        },
        ctx.signal,
      ),
    );
    if (answer.status === 404 || answer.status === 405) return undefined;
    if (answer.status === 200) return tokenIn(answer, url);
    throw new BerthError(
      answer.status < 500 ? 'unauthenticated' : 'unavailable',
      this.label(`the token server ${url.origin} answered ${answer.status}${reasonIn(answer)}`),
      { hint: this.loginHint(endpoint, asked.authorization !== undefined || asked.form !== undefined) },
    );
  }

  /** Sends until there is an answer that is worth having, or attempts run out. */
  private async persist<Answer extends HttpAnswer>(
    ctx: Context,
    method: string,
    url: URL,
    attempts: number,
    send: () => Promise<Answer>,
  ): Promise<Answer> {
    const startedAt = Date.now();
    for (let attempt = 1; ; attempt++) {
      ctx.throwIfEnded();
      const last = attempt >= attempts;
      let retryAfter: unknown;
      let outcome: string;
      try {
        const answer = await send();
        if (!isBusy(answer.status)) return answer;
        outcome = `answered ${answer.status}${reasonIn(answer)}`;
        if (last) throw this.unavailable(method, url, `${outcome} ${times(attempt)}`, startedAt);
        retryAfter = answer.headers['retry-after'];
      } catch (error) {
        ctx.throwIfEnded();
        if (error instanceof BerthError) throw error;
        const { reason, fatal } = networkReason(error);
        outcome = `failed: ${reason}`;
        if (last || fatal)
          throw this.unavailable(method, url, fatal ? outcome : `${outcome} ${times(attempt)}`, startedAt, error);
      }
      if (!(await pause(ctx, attempt, this.options.retryDelayMs ?? 500, retryAfter)))
        throw this.unavailable(
          method,
          url,
          `${outcome}, and wants to be asked again after ${String(retryAfter)}`,
          startedAt,
        );
    }
  }

  private unavailable(method: string, url: URL, outcome: string, startedAt: number, cause?: unknown): BerthError {
    const seconds = Math.round((Date.now() - startedAt) / 1000);
    return new BerthError(
      'unavailable',
      this.label(`${method} ${url.href} ${outcome}${seconds > 0 ? ` in ${seconds} s` : ''}`),
      {
        cause,
        hint: outcome.startsWith('answered')
          ? 'the node reaches the host, so check the registry'
          : "check the node's network and the registry's address",
      },
    );
  }

  private refusal(
    endpoint: Endpoint,
    url: URL,
    answer: HttpAnswer,
    method = 'GET',
    otherwise: { kind: ErrorKind; hint: string | undefined } = { kind: 'unavailable', hint: undefined },
  ): BerthError {
    const kinds: Partial<Record<number, ErrorKind>> = {
      401: 'unauthenticated',
      403: 'permission_denied',
      404: 'not_found',
    };
    const where = new URL(endpoint.origin).host === this.reference.host ? url.pathname : url.href;
    const by = answer.origin === url.origin ? '' : ` was redirected to ${answer.origin}, which`;
    const message = this.label(`${method} ${where}${by} answered ${answer.status}${reasonIn(answer)}`);
    const isLogin = (answer.status === 401 || answer.status === 403) && by === '';
    const sent = this.authorizer.headerFor(endpoint) !== undefined;
    const hint =
      answer.status === 404 ? 'check the name and tag' : isLogin ? this.loginHint(endpoint, sent) : otherwise.hint;
    return new BerthError(kinds[answer.status] ?? otherwise.kind, message, hint === undefined ? {} : { hint });
  }

  private loginHint(endpoint: Endpoint, sent: boolean): string {
    if (this.hasAuth && !this.endpoints.some(one => this.authorizer.mayKnow(one)) && !sent)
      return `the credentials that were given are for another host than ${this.reference.host}`;
    return this.authorizer.mayKnow(endpoint) || sent
      ? 'check the credentials that were given'
      : 'no credentials were given: the name may be wrong, or the repository needs a login';
  }

  private label(text: string): string {
    const what = this.verb === 'login' ? this.reference.host : canonicalForm(this.reference);
    return `${this.verb} ${what}: ${text}`;
  }

  private unlabelled(text: string): string {
    return text.replace(this.label(''), '');
  }
}

function toBlob(answer: StreamedAnswer, asked: number, from: string, failed: () => void): BlobBytes {
  return {
    offset: answer.status === 206 ? asked : 0,
    from,
    pipeTo: async (fd, signal) => {
      try {
        await answer.pipeTo(fd, signal);
      } catch (error) {
        if (!signal.aborted && errnoOf(error) !== 'EPIPE') failed();
        throw error;
      }
    },
    distrust: failed,
    close: async () => answer.drop(),
  };
}

/** What was there already was the whole. */
function emptyBlob(offset: number, from: string): BlobBytes {
  return {
    offset,
    from,
    pipeTo: async fd => closeSync(fd),
    close: async () => undefined,
  };
}

function isRest({ status, headers }: HttpAnswer, offset: number): boolean {
  const [, first] = /^bytes (\d+)-\d+\/(?:\d+|\*)$/.exec(String(headers['content-range'] ?? '')) ?? [];
  return status === 206 && first !== undefined && Number(first) === offset;
}

function isPastEnd({ status, headers }: HttpAnswer, offset: number): boolean {
  return status === 416 && String(headers['content-range'] ?? '').trim() === `bytes */${offset}`;
}

function rangeOf({ status, headers }: HttpAnswer): string {
  const range = JSON.stringify(String(headers['content-range'] ?? '').slice(0, 60));
  return `status ${status} with Content-Range ${range}`;
}

function contentType({ headers }: HttpAnswer): string | undefined {
  const value = headers['content-type'];
  return typeof value === 'string' ? value.split(';', 1)[0]?.trim().toLowerCase() : undefined;
}

const errorShape = z.object({
  errors: z.array(z.object({ code: z.string().optional(), message: z.string().optional() })).min(1),
});

/** ` (manifest unknown)`: what the registry says, or nothing. */
function reasonIn({ body }: HttpAnswer): string {
  try {
    const [first] = errorShape.parse(JSON.parse(Buffer.from(body).toString())).errors;
    const said = (first?.message || first?.code || '').replace(/[^\x20-\x7e]/g, ' ').slice(0, 200);
    return said ? ` (${said})` : '';
  } catch {
    return '';
  }
}

const tokenShape = z.object({
  token: z.string().optional(),
  access_token: z.string().optional(),
  expires_in: z.number().positive().optional().catch(undefined),
});

function tokenIn({ body, tooLong }: HttpAnswer, url: URL): Token {
  try {
    const { token, access_token, expires_in } = tokenShape.parse(tooLong || JSON.parse(Buffer.from(body).toString()));
    const found = token || access_token;
    if (found && /^[\x21-\x7e]+$/.test(found)) return { token: found, expiresInSeconds: expires_in };
  } catch {
    // Said below, without what came: it may be a secret.
  }
  throw new BerthError('unavailable', `the token server ${url.origin} answered without a token`);
}
