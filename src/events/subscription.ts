import { anySignal } from '../base/any-signal';
import { Context } from '../base/context';
import { BerthError } from '../base/errors';

/**
 * What one subscriber has not taken yet. When that gets too much, the subscription
 * ends with an error: a subscriber has all events in order, or knows that it has not.
 */
export class Subscription<T> implements Disposable {
  private waiting: T[] = [];
  private wake: () => void = () => undefined;
  private readonly over = new AbortController();

  constructor(
    private readonly waitingMax: number,
    private readonly leave: () => void,
  ) {}

  /** Takes what `make` returns, unless that is undefined. Never throws: what goes wrong ends the subscription. */
  offer(make: () => T | undefined): void {
    try {
      const item = make();
      if (item === undefined) return;
      this.waiting.push(item);
      if (this.waiting.length > this.waitingMax) this.end(tooSlow(this.waitingMax));
      else this.wake();
    } catch (error) {
      this.end(error instanceof BerthError ? error : new BerthError('internal', String(error), { cause: error }));
    }
  }

  /** All that has come since the last time, once there is something. */
  async take(): Promise<T[]> {
    if (this.waiting.length === 0) await new Promise<void>(resolve => (this.wake = resolve));
    return this.waiting.splice(0);
  }

  /** Aborts when there will be no more, with why. */
  get ended(): AbortSignal {
    return this.over.signal;
  }

  /** No more from now on. What waits is dropped, so that a reader that never reads holds nothing. */
  end(why: BerthError): void {
    this.leave();
    this.waiting = [];
    this.over.abort(why);
  }

  [Symbol.dispose](): void {
    this.end(new BerthError('cancelled', 'the subscription was given up'));
  }
}

/**
 * Sends everything to a reader, in order, until `ctx` ends or `send` says with false
 * that this was all; throws why the subscription ended when that comes first, also
 * while the reader does not read.
 */
export async function forward<T>(
  subscription: Subscription<T>,
  ctx: Context,
  send: (items: T[]) => Promise<boolean>,
): Promise<void> {
  const both = Context.of(ctx.log, { signal: anySignal([ctx.signal, subscription.ended]) });
  try {
    while (await both.race(send(await both.race(subscription.take()))));
  } catch (error) {
    if (ctx.signal.aborted) return;
    throw subscription.ended.aborted ? subscription.ended.reason : error;
  }
}

function tooSlow(waitingMax: number): BerthError {
  return new BerthError(
    'resource_exhausted',
    `this subscriber has not read its events: more than ${waitingMax} wait for it, and it gets no more`,
    { hint: 'subscribe again, then look at what there is, since events are missing' },
  );
}
