import { Metadata, type UntypedServiceImplementation } from '@grpc/grpc-js';
import {
  EventsService,
  type Event,
  type EventsServer,
  type WatchEventsRequest,
  type WatchEventsResponse,
} from '../cri/generated/berth/v1/events';
import type { BerthEvent, Events } from '../events/events';
import { forward } from '../events/subscription';
import type { BerthParts } from './berth-service';
import { eventFilter } from './event-filter';
import { complete, serverStream } from './handler';

/** setTimeout's limit: 24 days. Who listens that long hears the end then, and may listen on. */
const MAX_MS = 2_147_483_647;

/** Stands in the line of events where no more are wanted. */
const END = Symbol('end');

export function eventsService({ log, containers: { events } }: BerthParts): UntypedServiceImplementation {
  const built = {
    watchEvents: serverStream<WatchEventsRequest, WatchEventsResponse>(
      log,
      'WatchEvents',
      async ({ sinceNs, untilNs, filters }, ctx, send, call) => {
        const passes = eventFilter(filters);
        const isWanted = (event: BerthEvent) => (untilNs === 0n || event.timeNs <= untilNs) && passes(event);
        using subscription = events.subscribe<BerthEvent | typeof END>(event => (isWanted(event) ? event : undefined));
        using _timer = atTime(untilNs, () => subscription.offer(() => END));
        call.sendMetadata(new Metadata());
        if (sinceNs > 0n) await send(past(events, sinceNs, isWanted));
        ctx.stage('send what happens');
        await forward(subscription, ctx, async items => {
          const known = items.filter(item => item !== END);
          if (known.length > 0) await send({ events: known.map(toEvent), forgottenUntilNs: 0n });
          return known.length === items.length;
        });
      },
    ),
  } satisfies Partial<EventsServer>;
  return complete(EventsService, built);
}

function past(events: Events, sinceNs: bigint, isWanted: (event: BerthEvent) => boolean): WatchEventsResponse {
  const { forgottenUntilNs } = events;
  return {
    events: events
      .since(sinceNs - 1n)
      .filter(isWanted)
      .map(toEvent),
    forgottenUntilNs: sinceNs <= forgottenUntilNs ? forgottenUntilNs : 0n,
  };
}

/** Runs `work` at a time, soon if that has passed, never for 0; not any more once disposed. */
function atTime(ns: bigint, work: () => void): Disposable {
  if (ns === 0n) return { [Symbol.dispose]: () => undefined };
  const ms = Number(ns / 1_000_000n) - Date.now();
  // A millisecond later, so that all of that time has been told.
  const timer = setTimeout(work, Math.min(Math.max(0, ms + 1), MAX_MS));
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}

function toEvent({ timeNs, type, action, id, podId, attributes, labels }: BerthEvent): Event {
  return { timeNs, type, action, id, podId, attributes, labels };
}
