import { BerthError } from '../base/errors';
import { Subscription } from './subscription';

/** What happened: `container start`, `image pull`. */
export interface Happening {
  readonly type: 'container' | 'pod' | 'image';
  /** One word, as docker has it where docker has one. */
  readonly action: string;
  /** In full, of what it happened to. */
  readonly id: string;
  /** The pod that it happened in, or to. */
  readonly podId?: string;
  /** What else is to know: `name`, `image`, `exitCode`. */
  readonly attributes?: Readonly<Record<string, string>>;
  /** Of what it happened to; taken as they are, not copied. */
  readonly labels?: Readonly<Record<string, string>>;
}

export interface BerthEvent extends Required<Happening> {
  /** Nanoseconds since 1970. Later events have later times, and no two the same. */
  readonly timeNs: bigint;
}

interface Limits {
  /** Of the past, at least so many events are kept for those who ask later. */
  readonly keptMax: number;
  /** Of the present, so many may wait for one subscriber. */
  readonly waitingMax: number;
}

const LIMITS: Limits = { keptMax: 4096, waitingMax: 4096 };

const NOTHING: Readonly<Record<string, string>> = Object.freeze({});

/**
 * What happens to containers, pods and images, told by whoever does it, once it
 * is done and recorded: `events.emit({ type: 'image', action: 'tag', id, attributes: { name } })`.
 * Telling costs next to nothing, never waits and never fails.
 */
export class Events {
  private kept: BerthEvent[] = [];
  private lastNs: bigint;
  private horizonNs: bigint;
  private readonly listeners = new Set<Listener>();
  private isClosed = false;

  constructor(
    private readonly limits: Limits = LIMITS,
    private readonly clock: { now(): number } = Date,
  ) {
    this.lastNs = this.horizonNs = this.nowNs();
  }

  emit({ type, action, id, podId = '', attributes = NOTHING, labels = NOTHING }: Happening): void {
    const now = this.nowNs();
    this.lastNs = now > this.lastNs ? now : this.lastNs + 1n;
    const event: BerthEvent = { timeNs: this.lastNs, type, action, id, podId, attributes, labels };
    this.keep(event);
    for (const { hear } of this.listeners) hear(event);
  }

  /** All events after `ns` that are still known. */
  since(ns: bigint): BerthEvent[] {
    return this.kept.filter(({ timeNs }) => timeNs > ns);
  }

  /** Events up to this time are not known any more; nanoseconds since 1970. */
  get forgottenUntilNs(): bigint {
    return this.horizonNs;
  }

  /**
   * From now on, and in order, what `select` makes of each event while it happens;
   * of undefined nothing becomes. Ends when it is disposed.
   */
  subscribe<T>(select: (event: BerthEvent) => T | undefined): Subscription<T> {
    const { waitingMax } = this.limits;
    const subscription: Subscription<T> = new Subscription(waitingMax, () => this.listeners.delete(listener));
    const listener: Listener = {
      hear: event => subscription.offer(() => select(event)),
      end: why => subscription.end(why),
    };
    if (this.isClosed) listener.end(closing());
    else this.listeners.add(listener);
    return subscription;
  }

  /** The daemon ends: all who listen are told so. */
  close(): void {
    this.isClosed = true;
    for (const { end } of [...this.listeners]) end(closing());
  }

  private keep(event: BerthEvent): void {
    this.kept.push(event);
    const { keptMax } = this.limits;
    if (this.kept.length < 2 * keptMax) return;
    const forgotten = this.kept.splice(0, keptMax);
    this.horizonNs = forgotten.at(-1)?.timeNs ?? this.horizonNs;
  }

  private nowNs(): bigint {
    return BigInt(this.clock.now()) * 1_000_000n;
  }
}

interface Listener {
  hear: (event: BerthEvent) => void;
  end: (why: BerthError) => void;
}

function closing(): BerthError {
  return new BerthError('unavailable', 'no more events: the daemon ends', { hint: 'subscribe to the next one' });
}
