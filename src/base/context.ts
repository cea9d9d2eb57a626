import { setMaxListeners } from 'node:events';
import { anySignal } from './any-signal';
import { BerthError } from './errors';
import type { Logger } from './log';
import type { Steps } from './steps';

/**
 * What every slow operation takes: who wants it, until when, and where to say
 * what happens. `stage` is the step under way; a time-out names it.
 */
export class Context {
  private current = 'start';
  private allowed = 0;

  private constructor(
    readonly log: Logger,
    readonly signal: AbortSignal,
    private readonly timeoutMs: number | undefined,
    /** Who wants to know what takes how long, if anybody. */
    readonly steps: Steps | undefined,
  ) {}

  /** A context that ends when `signal` aborts or `timeoutMs` milliseconds have passed, whichever is first. */
  static of(
    log: Logger,
    options: { signal?: AbortSignal; timeoutMs?: number; steps?: Steps | undefined } = {},
  ): Context {
    const signals: AbortSignal[] = [];
    if (options.signal) signals.push(options.signal);
    if (options.timeoutMs !== undefined) signals.push(AbortSignal.timeout(options.timeoutMs));
    const signal = signals.length === 1 && signals[0] ? signals[0] : anySignal(signals);
    setMaxListeners(0, signal); // every layer of an image listens, and there is no leak in that
    return new Context(log, signal, options.timeoutMs, options.steps);
  }

  /** Names the step that starts now. */
  stage(name: string): void {
    this.current = name;
    this.steps?.stage(name);
    this.throwIfEnded();
  }

  get stageName(): string {
    return this.current;
  }

  /** The caller has said that this may take so long, in ms: nobody needs to be told that it was slow. */
  allow(ms: number): void {
    this.allowed += ms;
  }

  get allowedMs(): number {
    return this.allowed;
  }

  /** Throws `cancelled` or `deadline_exceeded`, naming the stage, once the context has ended. */
  throwIfEnded(): void {
    if (this.signal.aborted) throw this.ended();
  }

  /** Waits for `work`, or throws as soon as the context ends; `work` itself goes on unless it watches the signal. */
  async race<T>(work: Promise<T>): Promise<T> {
    if (this.signal.aborted) {
      work.catch(() => undefined);
      throw this.ended();
    }
    let onAbort: (() => void) | undefined;
    const ended = new Promise<never>((_, reject) => {
      onAbort = () => reject(this.ended());
      this.signal.addEventListener('abort', onAbort, { once: true });
    });
    try {
      return await Promise.race([work, ended]);
    } finally {
      if (onAbort) this.signal.removeEventListener('abort', onAbort);
    }
  }

  private ended(): BerthError {
    const reason: unknown = this.signal.reason;
    // Who ended it on purpose said why.
    if (reason instanceof BerthError) return new BerthError(reason.kind, `${reason.message} during: ${this.current}`);
    const timedOut = reason instanceof DOMException && reason.name === 'TimeoutError';
    if (!timedOut) return new BerthError('cancelled', `the caller went away during: ${this.current}`);
    const after = this.timeoutMs === undefined ? '' : ` after ${this.timeoutMs} ms`;
    return new BerthError('deadline_exceeded', `gave up${after} during: ${this.current}`);
  }
}
