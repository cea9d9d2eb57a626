import { randomBytes } from 'node:crypto';
import { redact } from '../../base/errors';
import type { CallTrace } from '../traces';
import { attribute, SpanKind, SpanStatus, type Span } from './span';
import type { CallerSpan } from './trace-context';

/** A call that goes through more steps than this is a strange one; the first are told. */
const STEPS_MAX = 200;

/** Codes that say that the server is at fault, by the conventions of OpenTelemetry: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS. */
const SERVER_ERRORS: ReadonlySet<number> = new Set([2, 4, 12, 13, 14, 15]);

/** A call with its steps: a span each, below the call's own. */
export class Call implements CallTrace {
  private readonly traceId: string;
  private readonly spanId = randomBytes(8).toString('hex');
  private readonly beganNs = process.hrtime.bigint();
  /** From the clock of `process.hrtime` to 1970; fixed for the call, so that its spans fit together. */
  private readonly epochNs = BigInt(Date.now()) * 1_000_000n - this.beganNs;
  private readonly spans: Span[] = [];
  private current: { text: string; fromNs: bigint } | undefined;
  private isOpen = true;

  constructor(
    private readonly service: string,
    private readonly method: string,
    private readonly caller: CallerSpan | undefined,
    private readonly send: (spans: Span[]) => void,
  ) {
    this.traceId = caller?.traceId ?? randomBytes(16).toString('hex');
  }

  step(work: string, name: string, fromNs: bigint, toNs: bigint): void {
    this.addStep(name, fromNs, toNs, work);
  }

  stage(text: string): void {
    this.endStage();
    this.current = { text, fromNs: process.hrtime.bigint() };
  }

  end(code: number, details: string): void {
    if (!this.isOpen) return;
    this.endStage();
    this.isOpen = false;
    const { service, method, caller } = this;
    const isError = SERVER_ERRORS.has(code);
    this.spans.push({
      traceId: this.traceId,
      spanId: this.spanId,
      ...(caller ? { parentSpanId: caller.spanId } : {}),
      ...(caller?.state ? { traceState: caller.state } : {}),
      name: `${service}/${method}`,
      kind: SpanKind.SERVER,
      ...this.times(this.beganNs, process.hrtime.bigint()),
      attributes: [
        attribute('rpc.system', 'grpc'),
        attribute('rpc.service', service),
        attribute('rpc.method', method),
        attribute('rpc.grpc.status_code', code),
        ...(code === 0 ? [] : [attribute('error.message', redact(details))]),
      ],
      status: isError ? { code: SpanStatus.ERROR, message: redact(details) } : { code: SpanStatus.UNSET },
    });
    this.send(this.spans);
  }

  private endStage(): void {
    if (this.current) this.addStep(this.current.text, this.current.fromNs, process.hrtime.bigint());
    this.current = undefined;
  }

  /** What is undone after the call has been answered is not a part of it. */
  private addStep(name: string, fromNs: bigint, toNs: bigint, work = ''): void {
    if (!this.isOpen || this.spans.length >= STEPS_MAX) return;
    this.spans.push({
      traceId: this.traceId,
      spanId: randomBytes(8).toString('hex'),
      parentSpanId: this.spanId,
      name: redact(name),
      kind: SpanKind.INTERNAL,
      ...this.times(fromNs, toNs),
      attributes: work === '' ? [] : [attribute('berth.work', work)],
      status: { code: SpanStatus.UNSET },
    });
  }

  private times(fromNs: bigint, toNs: bigint): { startTimeUnixNano: string; endTimeUnixNano: string } {
    return { startTimeUnixNano: String(fromNs + this.epochNs), endTimeUnixNano: String(toNs + this.epochNs) };
  }
}
