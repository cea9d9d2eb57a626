import { Agent, request, type Dispatcher } from 'undici';
import { parseUrl } from './url';

/** No answer's headers within this time, or no byte of a body: the connection is dead. The whole may take any time. */
const headersTimeoutMs = 30_000;
const bodyTimeoutMs = 60_000;
const connectTimeoutMs = 15_000;
const redirectsMax = 5;
const userAgent = 'berth';

export interface HttpRequest {
  readonly method: 'GET' | 'POST';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent to the origin of `url` only, whatever redirects say. */
  readonly authorization: string | undefined;
  readonly body?: string;
  readonly skipVerify: boolean;
  readonly signal: AbortSignal;
}

export type HttpResponse = Dispatcher.ResponseData;

/** Connections to registries, kept alive between requests; one for the whole daemon. */
export class Transport {
  private readonly verifying = new Agent(agentOptions(true));
  private readonly trusting = new Agent(agentOptions(false));

  /** Sends a request and follows redirects. Rejects with undici's error when there is no answer. */
  async send(asked: HttpRequest): Promise<HttpResponse> {
    let url = asked.url;
    for (let redirects = 0; ; redirects++) {
      const response = await this.sendOnce(asked, url);
      const next = redirectOf(response, url);
      if (!next) return response;
      await response.body.dump();
      if (redirects === redirectsMax) throw new Error(`more than ${redirectsMax} redirects`);
      if (url.protocol === 'https:' && next.protocol !== 'https:')
        throw new Error('a redirect leads from https to plain http');
      url = next;
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.verifying.destroy(), this.trusting.destroy()]);
  }

  private sendOnce(asked: HttpRequest, url: URL): Promise<HttpResponse> {
    const known = asked.authorization !== undefined && url.origin === asked.url.origin;
    return request(url, {
      method: asked.method,
      headers: {
        'user-agent': userAgent,
        'accept-encoding': 'identity', // a blob must come as the bytes that its digest is of
        ...asked.headers,
        ...(known ? { authorization: asked.authorization } : {}),
      },
      body: asked.body ?? null,
      signal: asked.signal,
      dispatcher: asked.skipVerify ? this.trusting : this.verifying,
    });
  }
}

function agentOptions(verify: boolean): Agent.Options {
  return {
    headersTimeout: headersTimeoutMs,
    bodyTimeout: bodyTimeoutMs,
    connect: { timeout: connectTimeoutMs, rejectUnauthorized: verify },
    maxHeaderSize: 64 * 1024,
  };
}

function redirectOf(response: HttpResponse, from: URL): URL | undefined {
  const { location } = response.headers;
  if (![301, 302, 303, 307, 308].includes(response.statusCode) || typeof location !== 'string') return undefined;
  return parseUrl(location, from);
}
