import { randomBytes } from 'node:crypto';
import { BerthError } from '../base/errors';

const TOKEN_BYTES = 16;
const LIFE_MS = 60_000;
const MAX_WAITING = 1000;

interface Waiting<T> {
  value: T;
  until: number;
}

/**
 * Requests that wait for their client, by a token of 128 random bits that is good once, for a minute. The clock is
 * passed in by tests.
 */
export class Tokens<T> {
  /** Oldest first, since all live equally long. */
  private readonly waiting = new Map<string, Waiting<T>>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly now: () => number = () => performance.now()) {}

  /** Throws `resource_exhausted` while too many wait. */
  mint(value: T): string {
    this.expire();
    if (this.waiting.size >= MAX_WAITING) {
      throw new BerthError(
        'resource_exhausted',
        `${MAX_WAITING} streaming requests wait for their clients: no more are taken before one comes or a minute is over`,
      );
    }
    const token = randomBytes(TOKEN_BYTES).toString('base64url');
    this.waiting.set(token, { value, until: this.now() + LIFE_MS });
    this.arm();
    return token;
  }

  /** The request of a token, which is used up by that; undefined when there is none, or none of this kind. */
  take(token: string, isFor: (value: T) => boolean): T | undefined {
    this.expire();
    const found = this.waiting.get(token);
    if (!found || !isFor(found.value)) return undefined;
    this.waiting.delete(token);
    return found.value;
  }

  get size(): number {
    return this.waiting.size;
  }

  close(): void {
    clearTimeout(this.timer);
    this.waiting.clear();
  }

  private expire(): void {
    for (const [token, { until }] of this.waiting) {
      if (until > this.now()) break;
      this.waiting.delete(token);
    }
  }

  /** What a request holds must not stay because nobody asks any more. */
  private arm(): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.expire();
      if (this.waiting.size > 0) this.arm();
    }, LIFE_MS + 1).unref();
  }
}
