import { closeSync, existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Ask, HttpAnswer, HttpRequest, SentError, Tell } from './http-messages';
import { proxySettings, type ProxySettings } from './proxies';

export interface TransportOptions {
  /** See `HttpRequest`. */
  readonly progressTimeoutMs?: number;
  /** After so long without a request the thread ends, and its memory with it. */
  readonly idleMs?: number;
  /** Where the proxies are named; the program's own environment, unless this is a test. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
}

/** What every request carries; the rest is the transport's. */
export type Sendable = Omit<HttpRequest, 'stream' | 'proxies' | 'progressTimeoutMs'>;

/** An answer whose body is still to come, when `streamed`: it must be piped or dropped. */
export interface StreamedAnswer extends HttpAnswer {
  /**
   * Writes the body into a pipe (or socket), which belongs to this from now on
   * and is closed when it settles. Rejects when the connection breaks, stands
   * still, or `signal` aborts; with EPIPE when nobody reads any more.
   */
  pipeTo(fd: number, signal: AbortSignal): Promise<void>;
  /** Gives the body up. Idempotent. */
  drop(): void;
}

interface Waiting {
  readonly resolve: (tell: Tell) => void;
  readonly reject: (error: Error) => void;
  readonly onUploaded?: ((bytes: number) => void) | undefined;
  /** Of a pipe that the thread has not taken yet. */
  fd?: number | undefined;
}

/** The main thread's end of the HTTP thread (http-worker.ts); one for the whole daemon. */
export class Transport {
  readonly proxies: ProxySettings;
  private readonly progressTimeoutMs: number;
  private readonly idleMs: number;
  private worker: Worker | undefined;
  private readonly waiting = new Map<number, Waiting>();
  /** Requests whose bodies are still to be read. */
  private readonly streams = new Set<number>();
  private lastId = 0;
  private idle: NodeJS.Timeout | undefined;

  constructor({ progressTimeoutMs = 60_000, idleMs = 30_000, environment }: TransportOptions = {}) {
    this.proxies = proxySettings(environment);
    this.progressTimeoutMs = progressTimeoutMs;
    this.idleMs = idleMs;
  }

  /** Sends a request, follows redirects, and brings the whole body. Rejects with an error that has a `code` when there is no answer. */
  async send(asked: Sendable, signal: AbortSignal, onUploaded?: (bytes: number) => void): Promise<HttpAnswer> {
    const { upload } = asked;
    // The thread has a descriptor of its own, to close when it is done, whatever becomes of the asker's.
    const own = upload && upload.bytes > 0 ? { ...upload, fd: openSync(`/proc/self/fd/${upload.fd}`, 'r') } : undefined;
    const [, answer] = await this.ask({ ...asked, upload: own }, false, signal, onUploaded);
    return answer;
  }

  /** Like `send`, but the body of a success stays where it is until it is piped. */
  async open(asked: Sendable, signal: AbortSignal): Promise<StreamedAnswer> {
    const [id, answer] = await this.ask(asked, true, signal);
    if (answer.streamed) this.streams.add(id);
    return {
      ...answer,
      pipeTo: (fd, until) => this.pipe(id, fd, until),
      drop: () => this.drop(id),
    };
  }

  /** Ends the thread; what is under way fails. */
  async close(): Promise<void> {
    clearTimeout(this.idle);
    const { worker } = this;
    this.worker = undefined;
    await worker?.terminate();
    this.failAll('the daemon is ending');
  }

  private async ask(
    asked: Sendable,
    stream: boolean,
    signal: AbortSignal,
    onUploaded?: (bytes: number) => void,
  ): Promise<[number, HttpAnswer]> {
    const id = ++this.lastId;
    const { progressTimeoutMs, proxies } = this;
    const request = { ...asked, stream, progressTimeoutMs, proxies };
    const told = await this.post({ do: 'send', id, request }, signal, onUploaded);
    if (told.tell !== 'answer') throw new Error(`the HTTP thread answered ${told.tell}`);
    return [id, told.answer];
  }

  private async pipe(id: number, fd: number, signal: AbortSignal): Promise<void> {
    if (!this.streams.delete(id)) {
      closeSync(fd);
      throw networkError({ message: 'the answer was given up', code: 'ERR_GIVEN_UP' });
    }
    await this.post({ do: 'pipe', id, fd }, signal);
  }

  private drop(id: number): void {
    if (!this.streams.delete(id)) return;
    this.worker?.postMessage({ do: 'drop', id } satisfies Ask);
    this.rest();
  }

  /** Posts and waits for what is told about it; an abort gives it up at once. */
  private async post(
    ask: Extract<Ask, { id: number }>,
    signal: AbortSignal,
    onUploaded?: (bytes: number) => void,
  ): Promise<Tell> {
    const worker = this.running();
    let onAbort: (() => void) | undefined;
    try {
      return await new Promise<Tell>((resolve, reject) => {
        const fd = ask.do === 'pipe' ? ask.fd : undefined;
        this.waiting.set(ask.id, { resolve, reject, fd, onUploaded });
        onAbort = () => {
          worker.postMessage({ do: 'drop', id: ask.id } satisfies Ask);
          // A pipe is closed by the thread, which tells; only then may its number be used again.
          if (fd === undefined) reject(abortReason(signal));
        };
        if (signal.aborted && fd === undefined) reject(abortReason(signal));
        else worker.postMessage(ask);
        if (signal.aborted) onAbort();
        else signal.addEventListener('abort', onAbort, { once: true });
      });
    } finally {
      if (onAbort) signal.removeEventListener('abort', onAbort);
      this.waiting.delete(ask.id);
      this.rest();
    }
  }

  private hear(told: Tell): void {
    const waiting = this.waiting.get(told.id);
    if (told.tell === 'adopted') {
      if (waiting) waiting.fd = undefined;
    } else if (told.tell === 'uploaded') waiting?.onUploaded?.(told.bytes);
    else if (told.tell === 'failed') waiting?.reject(networkError(told.error));
    else if (waiting) waiting.resolve(told);
    else this.worker?.postMessage({ do: 'drop', id: told.id } satisfies Ask); // nobody waits for this answer any more
  }

  private running(): Worker {
    clearTimeout(this.idle);
    if (this.worker) return this.worker;
    const worker = new Worker(workerFile(), {
      name: 'http',
      stdin: false,
      // It closes descriptors that were opened here.
      trackUnmanagedFds: false,
      execArgv: [],
      resourceLimits: { stackSizeMb: 1 },
    });
    worker.on('message', (told: Tell) => this.hear(told));
    worker.on('error', error => this.gone(worker, `the HTTP thread failed: ${error.message}`));
    worker.on('exit', () => this.gone(worker, 'the HTTP thread ended'));
    this.worker = worker;
    return worker;
  }

  /** The next request starts another thread. */
  private gone(worker: Worker, why: string): void {
    if (this.worker !== worker) return;
    this.worker = undefined;
    this.failAll(why);
  }

  private failAll(why: string): void {
    this.streams.clear();
    for (const { reject, fd } of this.waiting.values()) {
      if (fd !== undefined) closeSync(fd);
      reject(networkError({ message: why, code: 'ERR_HTTP_THREAD' }));
    }
    this.waiting.clear();
  }

  /** With nothing under way the thread neither holds the process nor, for long, its memory. */
  private rest(): void {
    if (this.waiting.size > 0 || this.streams.size > 0) return;
    clearTimeout(this.idle);
    this.idle = setTimeout(() => {
      const { worker } = this;
      this.worker = undefined;
      worker?.postMessage({ do: 'end' } satisfies Ask);
    }, this.idleMs);
    this.idle.unref();
  }
}

/** Beside this file, or in the bundle beside the program. */
function workerFile(): string {
  const bundled = join(__dirname, 'http-thread-start.cjs');
  return existsSync(bundled) ? bundled : join(__dirname, 'http-worker.js');
}

function networkError({ message, code }: SentError): Error {
  return Object.assign(new Error(message), code === undefined ? {} : { code });
}

function abortReason(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new Error('aborted');
}
