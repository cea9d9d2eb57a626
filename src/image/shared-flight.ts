import { Context } from '../base/context';
import type { Logger } from '../base/log';

interface Flight<Result, Event> {
  result: Promise<Result>;
  abort: AbortController;
  riders: number;
  listeners: Set<(event: Event) => void>;
}

/**
 * Joins calls that ask for the same thing at the same time. Unlike SingleFlight
 * the work belongs to all who wait for it: a caller who goes away leaves it to
 * the others, and the last one to leave ends it.
 */
export class SharedFlight<Result, Event> {
  private readonly flights = new Map<string, Flight<Result, Event>>();

  constructor(private readonly log: Logger) {}

  /** Waits for the flight `key`, which `start` begins if there is none; `onEvent` hears what it emits from now on. */
  async join(
    ctx: Context,
    key: string,
    onEvent: (event: Event) => void,
    start: (ctx: Context, emit: (event: Event) => void) => Promise<Result>,
  ): Promise<Result> {
    ctx.throwIfEnded();
    const flight = this.flights.get(key) ?? this.begin(ctx, key, start);
    const listener = (event: Event) => onEvent(event); // one of its own, should two callers hand over the same
    flight.riders++;
    flight.listeners.add(listener);
    try {
      return await ctx.race(flight.result);
    } finally {
      flight.listeners.delete(listener);
      flight.riders--;
      if (flight.riders === 0) this.end(key, flight);
    }
  }

  /** Waits until nothing flies. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.ending, ...[...this.flights.values()].map(flight => flight.result)]);
  }

  private readonly ending = new Set<Promise<unknown>>();

  /** Who asks first hears of the steps. */
  private begin(
    { steps }: Context,
    key: string,
    start: (ctx: Context, emit: (event: Event) => void) => Promise<Result>,
  ): Flight<Result, Event> {
    const abort = new AbortController();
    const listeners = new Set<(event: Event) => void>();
    const emit = (event: Event) => {
      for (const listener of listeners) listener(event);
    };
    const result = start(Context.of(this.log, { signal: abort.signal, steps }), emit);
    const flight = { result, abort, riders: 0, listeners };
    this.flights.set(key, flight);
    const tail = result
      .catch(() => undefined)
      .finally(() => {
        this.ending.delete(tail);
        if (this.flights.get(key) === flight) this.flights.delete(key);
      });
    this.ending.add(tail);
    return flight;
  }

  /** Nobody waits any more: whoever asks from now on begins anew. */
  private end(key: string, flight: Flight<Result, Event>): void {
    if (this.flights.get(key) === flight) this.flights.delete(key);
    flight.abort.abort();
  }
}
