import { setTimeout as sleep } from 'node:timers/promises';
import { kindOf } from '../base/errors';
import { BerthService, type LogEntry, type LogsRequest, type LogsResponse } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';

/** A daemon that is restarted is there again in a second or two. */
const BACK_WITHIN_MS = 60_000;
const RETRY_MS = 200;

/** A container's log as it grows, also over the end of a daemon: the next one is asked for what comes after. */
export async function* followedLogs(daemon: Daemon, request: LogsRequest): AsyncGenerator<LogsResponse> {
  const place = new Place(request);
  let isThere = false;
  for (let lostAtMs = 0; ;) {
    const replies = daemon.open(BerthService.logs, place.request());
    const watching = replies.watching.then(() => (isThere = true));
    watching.catch(() => undefined); // the replies end with the same error
    try {
      for await (const { entries } of replies) {
        lostAtMs = 0;
        const fresh = place.take(entries);
        if (fresh.length > 0) yield { entries: fresh };
      }
      return;
    } catch (error) {
      lostAtMs ||= Date.now();
      const isLost = ['unavailable', 'cancelled'].includes(kindOf(error));
      if (!isThere || !isLost || Date.now() - lostAtMs > BACK_WITHIN_MS) throw error;
    }
    await sleep(RETRY_MS);
  }
}

/** How far a log was read: to the nth entry of a nanosecond. */
class Place {
  private timeNs: bigint | undefined;
  private atThatTime = 0;
  private toSkip = 0;

  constructor(private readonly first: LogsRequest) {}

  request(): LogsRequest {
    if (this.timeNs === undefined) return this.first;
    this.toSkip = this.atThatTime;
    return { ...this.first, tail: undefined, sinceNs: this.timeNs };
  }

  /** Those that were not read before. */
  take(entries: readonly LogEntry[]): LogEntry[] {
    return entries.filter(({ timeNs }) => {
      if (this.toSkip > 0 && timeNs === this.timeNs) {
        this.toSkip--;
        return false;
      }
      this.toSkip = 0;
      this.atThatTime = timeNs === this.timeNs ? this.atThatTime + 1 : 1;
      this.timeNs = timeNs;
      return true;
    });
  }
}
