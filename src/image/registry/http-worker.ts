/**
 * The HTTP thread: all that speaks HTTP and TLS runs here, so that neither the
 * bytes of a layer nor the arithmetic of a handshake ever delay an answer to
 * the kubelet. Small bodies go back whole; a blob's body goes straight into a
 * pipe. See http-messages.ts for what is said, transport.ts for the other side.
 */

import { createReadStream } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { parentPort, type MessagePort } from 'node:worker_threads';
import type { Dispatcher } from 'undici';
import type { Ask, HttpAnswer, HttpRequest, SentError, Tell } from './http-messages';
import { Dispatchers } from './dispatchers';
import { StallWatch } from './stall-watch';
import { parseUrl } from './url';

const redirectsMax = 5;
const errorBodyBytesMax = 8 * 1024;
/** A document may take this many times as long as nothing may come. */
const documentPatience = 5;
/** Kept ready while the pipe is full, so that socket and pipe are busy at the same time. */
const pipeAheadBytes = 256 * 1024;
const userAgent = 'berth';

type Body = Dispatcher.ResponseData['body'];

interface Open {
  readonly abort: AbortController;
  readonly progressTimeoutMs: number;
  body?: Body;
}

if (parentPort) serve(parentPort);

function serve(port: MessagePort): void {
  const dispatchers = new Dispatchers();
  const open = new Map<number, Open>();
  const tell = (message: Tell) => port.postMessage(message);
  const handlers = {
    send: ({ id, request }: Extract<Ask, { do: 'send' }>) => void send(id, request),
    pipe: ({ id, fd }: Extract<Ask, { do: 'pipe' }>) => void pipe(id, fd),
    drop: ({ id }: Extract<Ask, { do: 'drop' }>) => {
      const found = open.get(id);
      open.delete(id);
      found?.abort.abort();
      found?.body?.on('error', () => undefined).destroy();
    },
    end: () => void dispatchers.close().then(() => port.close()),
  };
  port.on('message', (message: Ask) => handlers[message.do](message as never));

  async function send(id: number, request: HttpRequest): Promise<void> {
    const own: Open = { abort: new AbortController(), progressTimeoutMs: request.progressTimeoutMs };
    open.set(id, own);
    try {
      using upload = uploadOf(request.upload, bytes => open.has(id) && tell({ tell: 'uploaded', id, bytes }));
      const { response, origin } = await followed(dispatchers, request, own.abort.signal, upload?.body);
      const streamed = request.stream && (response.statusCode === 200 || response.statusCode === 206);
      refuseEncoded(response, streamed);
      if (streamed) own.body = response.body;
      const body = streamed
        ? { bytes: new Uint8Array(), tooLong: false }
        : await wholeBody(response, request, own.abort.signal);
      if (!open.has(id)) return;
      if (!streamed) open.delete(id);
      tell({ tell: 'answer', id, answer: { ...toAnswer(response, body, streamed), origin } });
    } catch (error) {
      own.abort.abort();
      if (open.delete(id)) tell({ tell: 'failed', id, error: toSent(error) });
    }
  }

  async function pipe(id: number, fd: number): Promise<void> {
    const socket = new Socket({ fd, readable: false, writable: true, writableHighWaterMark: pipeAheadBytes } as never);
    tell({ tell: 'adopted', id });
    const closed = new Promise<void>(resolve => void socket.once('close', () => resolve()));
    socket.on('error', () => undefined); // the pipeline tells
    const own = open.get(id);
    try {
      if (!own?.body) throw Object.assign(new Error('the answer was given up'), { code: 'ERR_GIVEN_UP' });
      using _watch = new StallWatch(own.body, own.progressTimeoutMs, () => socket.writableNeedDrain);
      await pipeline(own.body, socket, { signal: own.abort.signal });
      await closed;
      if (open.delete(id)) tell({ tell: 'piped', id });
    } catch (error) {
      socket.destroy();
      await closed;
      open.delete(id);
      tell({ tell: 'failed', id, error: toSent(error) });
    }
  }
}

/** Sends the request, and again to wherever it is redirected, without what only the first origin may see. */
async function followed(
  dispatchers: Dispatchers,
  asked: HttpRequest,
  signal: AbortSignal,
  upload: Readable | undefined,
): Promise<{ response: Dispatcher.ResponseData; origin: string }> {
  const first = new URL(asked.url);
  let url = first;
  for (let redirects = 0; ; redirects++) {
    const isOwn = url.origin === first.origin;
    const response = await dispatchers.for(url, asked, isOwn).request({
      origin: url.origin,
      path: url.pathname + url.search,
      method: asked.method,
      headers: {
        'user-agent': userAgent,
        'accept-encoding': 'identity', // a blob must come as the bytes that its digest is of
        ...mutable(asked.headers),
        ...(isOwn ? mutable(asked.ownHeaders ?? {}) : {}),
        ...(isOwn && asked.authorization !== undefined ? { authorization: asked.authorization } : {}),
        ...(asked.upload ? { 'content-length': String(asked.upload.bytes) } : {}),
      },
      body: upload ?? asked.body ?? null,
      signal,
      headersTimeout: asked.progressTimeoutMs,
      bodyTimeout: 0, // StallWatch sees to it
    });
    const next = redirectOf(response, url);
    if (!next) return { response, origin: url.origin };
    response.body.on('error', () => undefined).destroy();
    if (asked.body !== undefined || asked.upload) throw redirectError('what is posted follows no redirect');
    if (redirects === redirectsMax) throw redirectError(`more than ${redirectsMax} redirects`);
    if (url.protocol === 'https:' && next.protocol !== 'https:')
      throw redirectError('a redirect leads from https to plain http');
    url = next;
  }
}

/** Tells at most ten times a second how far it is. */
function uploadOf(
  upload: HttpRequest['upload'],
  uploaded: (bytes: number) => void,
): (Disposable & { body: Readable }) | undefined {
  if (!upload) return undefined;
  const { fd, offset: start, bytes } = upload;
  const body = createReadStream('', { fd, start, end: start + bytes - 1, highWaterMark: pipeAheadBytes });
  let [done, nextAt] = [0, 0];
  body.on('data', chunk => {
    done += chunk.length;
    if (performance.now() < nextAt && done < bytes) return;
    nextAt = performance.now() + 100;
    uploaded(done);
  });
  body.pause(); // until it is asked for
  body.on('error', () => undefined); // the request tells
  return { body, [Symbol.dispose]: () => body.destroy() };
}

function redirectOf(response: Dispatcher.ResponseData, from: URL): URL | undefined {
  const { location } = response.headers;
  if (![301, 302, 303, 307, 308].includes(response.statusCode)) return undefined;
  const next = typeof location === 'string' ? parseUrl(location, from) : undefined;
  if (next) return next;
  response.body.on('error', () => undefined).destroy();
  throw redirectError('a redirect leads to something that is not an http or https URL');
}

function redirectError(why: string): Error {
  return Object.assign(new Error(why), { code: 'ERR_REDIRECT' });
}

function refuseEncoded(response: Dispatcher.ResponseData, streamed: boolean): void {
  const encoding = [response.headers['content-encoding'] ?? 'identity'].flat().join(', ');
  if (encoding === 'identity' || encoding === '' || response.statusCode >= 300) return;
  response.body.on('error', () => undefined).destroy();
  throw Object.assign(
    new Error(
      `the ${streamed ? 'blob' : 'document'} came encoded as ${encoding.slice(0, 40)}, which was not asked for`,
    ),
    { code: 'ERR_ENCODING' },
  );
}

async function wholeBody(
  response: Dispatcher.ResponseData,
  request: HttpRequest,
  signal: AbortSignal,
): Promise<{ bytes: Uint8Array; tooLong: boolean }> {
  const max = response.statusCode < 300 ? request.bodyBytesMax : errorBodyBytesMax;
  const { body } = response;
  using _watch = new StallWatch(body, request.progressTimeoutMs, () => false);
  using _total = deadline(body, request.progressTimeoutMs * documentPatience);
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    signal.throwIfAborted();
    chunks.push(chunk);
    length += chunk.length;
    if (length > max) break; // which destroys the body
  }
  return { bytes: new Uint8Array(Buffer.concat(chunks).subarray(0, max)), tooLong: length > max };
}

function deadline(body: Body, ms: number): Disposable {
  const timer = setTimeout(() => {
    body.destroy(Object.assign(new Error(`the answer was not whole after ${ms / 1000} s`), { code: 'ERR_STALLED' }));
  }, ms);
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}

function toAnswer(
  { statusCode, headers }: Dispatcher.ResponseData,
  { bytes, tooLong }: { bytes: Uint8Array; tooLong: boolean },
  streamed: boolean,
): Omit<HttpAnswer, 'origin'> {
  const given = Object.entries(headers).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value] as const],
  );
  return { status: statusCode, headers: Object.fromEntries(given), body: bytes, tooLong, streamed };
}

function toSent(error: unknown): SentError {
  // Happy eyeballs: one error for each address that was tried; the first says enough.
  const inner: unknown = error instanceof AggregateError ? error.errors[0] : error;
  const plain = inner instanceof Error ? inner : new Error(String(inner));
  const { code } = plain as { code?: unknown };
  return { message: plain.message, code: typeof code === 'string' ? code : undefined };
}

function mutable(headers: Readonly<Record<string, string | readonly string[]>>): Record<string, string | string[]> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, typeof value === 'string' ? value : [...value]]),
  );
}
