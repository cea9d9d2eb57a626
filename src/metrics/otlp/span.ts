/** A span as OTLP has it in JSON: opentelemetry.proto.trace.v1.Span, with ids in hexadecimal and 64-bit numbers as texts. */
export interface Span {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  traceState?: string;
  name: string;
  kind: SpanKind;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: Attribute[];
  status: { code: SpanStatus; message?: string };
}

export enum SpanKind {
  INTERNAL = 1,
  SERVER = 2,
}

export enum SpanStatus {
  UNSET = 0,
  ERROR = 2,
}

export interface Attribute {
  key: string;
  value: { stringValue: string } | { intValue: string };
}

export function attribute(key: string, value: string | number): Attribute {
  return { key, value: typeof value === 'string' ? { stringValue: value } : { intValue: String(value) } };
}

/** What a collector is sent: opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest. */
export function exportRequest(spans: readonly Span[], resource: readonly Attribute[], version: string): object {
  const scopeSpans = [{ scope: { name: 'berth', version }, spans }];
  return { resourceSpans: [{ resource: { attributes: resource }, scopeSpans }] };
}
