import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { messageOf } from '../../base/errors';
import type { Logger } from '../../base/log';
import type { Span } from './span';

/** Spans that wait; those of calls that end when so many do are dropped. */
const WAITING_MAX = 4096;
const BATCH_MAX = 256;
const FLUSH_MS = 2000;
const ANSWER_WITHIN_MS = 10_000;
const RETRY_MS_MAX = 60_000;
const CLOSE_WITHIN_MS = 2000;

/** Answers after which the same may be sent again, by the OTLP specification. */
const RETRYABLE: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/**
 * Sends spans to a collector in batches, one request at a time, in the background.
 * A collector that does not answer costs a bounded amount of memory and one line
 * of the log, and is tried again ever more seldom.
 */
export class Exporter {
  private waiting: Span[] = [];
  private dropped = 0;
  private timer: NodeJS.Timeout | undefined;
  private sending: Promise<void> | undefined;
  private retryMs = 0;
  private readonly agent: HttpAgent | HttpsAgent;

  constructor(
    private readonly url: URL,
    private readonly encode: (spans: readonly Span[]) => object,
    private readonly log: Logger,
  ) {
    this.agent = url.protocol === 'https:' ? new HttpsAgent({ keepAlive: true }) : new HttpAgent({ keepAlive: true });
  }

  /** Takes the spans of one trace, all or none. */
  add(spans: Span[]): void {
    if (this.waiting.length + spans.length > WAITING_MAX) {
      this.dropped += spans.length;
      return;
    }
    this.waiting.push(...spans);
    this.schedule(FLUSH_MS);
  }

  async close(): Promise<void> {
    clearTimeout(this.timer);
    const last = this.sending ?? this.sendAll();
    await Promise.race([last, new Promise(resolve => setTimeout(resolve, CLOSE_WITHIN_MS).unref())]);
    this.agent.destroy();
  }

  private schedule(ms: number): void {
    if (this.timer || this.sending) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.sending = this.sendAll().finally(() => {
        this.sending = undefined;
        if (this.waiting.length > 0) this.schedule(this.retryMs || FLUSH_MS);
      });
    }, ms).unref();
  }

  /** Never rejects. Stops at the first batch that should be sent again later. */
  private async sendAll(): Promise<void> {
    while (this.waiting.length > 0) {
      const batch = this.waiting.slice(0, BATCH_MAX);
      const failure = await this.send(batch);
      if (failure?.isLasting === false) return this.retryLater(failure.why);
      if (failure) this.log.warn(`traces: the collector refused ${batch.length} spans: ${failure.why}`);
      this.waiting.splice(0, batch.length);
      this.arrived();
    }
  }

  private retryLater(why: string): void {
    if (this.retryMs === 0) this.log.warn(`traces: ${this.url.host} is tried again and again: ${why}`);
    this.retryMs = Math.min(this.retryMs === 0 ? FLUSH_MS : this.retryMs * 2, RETRY_MS_MAX);
  }

  private arrived(): void {
    if (this.retryMs > 0) this.log.info(`traces: ${this.url.host} takes spans again`, { dropped: this.dropped });
    this.retryMs = 0;
    this.dropped = 0;
  }

  /** Undefined when they have arrived. */
  private async send(batch: readonly Span[]): Promise<{ why: string; isLasting: boolean } | undefined> {
    try {
      const status = await this.post(Buffer.from(JSON.stringify(this.encode(batch))));
      if (status >= 200 && status < 300) return undefined;
      return { why: `it answered ${status}`, isLasting: !RETRYABLE.has(status) };
    } catch (error) {
      return { why: messageOf(error), isLasting: false };
    }
  }

  /** The status of the answer. */
  private async post(body: Buffer): Promise<number> {
    const request = this.url.protocol === 'https:' ? httpsRequest : httpRequest;
    return new Promise((resolve, reject) => {
      const sent = request(
        this.url,
        {
          method: 'POST',
          agent: this.agent,
          signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
          headers: { 'content-type': 'application/json', 'content-length': body.length },
        },
        response => {
          response.on('error', reject);
          response.on('end', () => resolve(response.statusCode ?? 0));
          response.resume();
        },
      );
      sent.on('error', reject);
      sent.end(body);
    });
  }
}
