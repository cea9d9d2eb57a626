/** The span of a caller, from its `traceparent` and `tracestate`; https://www.w3.org/TR/trace-context/. */
export interface CallerSpan {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits. */
  readonly spanId: string;
  /** The caller's trace is recorded. */
  readonly isSampled: boolean;
  readonly state: string;
}

const STATE_LENGTH_MAX = 512;

/** Undefined for what is no traceparent, which is then as if there was none. Later versions may have more at the end. */
export function callerSpan(traceparent: string | undefined, tracestate = ''): CallerSpan | undefined {
  const match = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(traceparent ?? '');
  if (!match) return undefined;
  const [, version = '', traceId = '', spanId = '', flags = '', more] = match;
  if (version === 'ff' || (version === '00' && more !== undefined)) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  const isSampled = (parseInt(flags, 16) & 1) === 1;
  return { traceId, spanId, isSampled, state: tracestate.length <= STATE_LENGTH_MAX ? tracestate : '' };
}
