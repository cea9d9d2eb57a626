import type { Logger } from '../base/log';
import type { Steps } from '../base/steps';

/** The trace of a call, while it runs. */
export interface CallTrace extends Steps {
  /** The call has ended, with gRPC's status; once. */
  end(code: number, details: string): void;
}

/** Traces of calls, on their way to a collector. Nothing of this waits, throws or fails a call. */
export interface Traces {
  /** A call begins, as a part of its caller's trace if that has one (W3C trace context); undefined when it is not to be traced. */
  begin(service: string, method: string, traceparent?: string, tracestate?: string): CallTrace | undefined;
  /** Sends what is left, but does not wait for a collector that does not answer. */
  close(): Promise<void>;
}

export interface TracesOptions {
  /** Of a collector that speaks OTLP over HTTP; `''` for none. */
  endpoint: string;
  /** Of the calls whose caller has no trace. */
  samplesPerMillion: number;
}

/** The traces of a daemon; without an endpoint nothing of them is loaded. */
export async function openTraces(options: TracesOptions, version: string, log: Logger): Promise<Traces | undefined> {
  if (options.endpoint === '') return undefined;
  const { OtlpTraces } = await import('./otlp/traces.js');
  return new OtlpTraces(options, version, log);
}
