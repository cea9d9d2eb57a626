import assert from 'node:assert/strict';
import fc from 'fast-check';
import { silentLogger, type Logger } from '../../../src/base/log';
import { callerSpan } from '../../../src/metrics/otlp/trace-context';
import { openTraces, type Traces } from '../../../src/metrics/traces';
import { Collector, valueOf } from '../../support/collector';
import { freePort } from '../../support/registry';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';

describe('the trace context of a caller', () => {
  for (const [text, what] of [
    [`00-${TRACE}-${SPAN}-01`, 'sampled'],
    [`00-${TRACE}-${SPAN}-00`, 'not sampled'],
    [`00-${TRACE}-${SPAN}-03`, 'sampled'],
    [`cc-${TRACE}-${SPAN}-01-what.comes.later`, 'sampled'],
    [`00-${TRACE}-${SPAN}-01-more`, 'none'],
    [`ff-${TRACE}-${SPAN}-01`, 'none'],
    [`00-${'0'.repeat(32)}-${SPAN}-01`, 'none'],
    [`00-${TRACE}-${'0'.repeat(16)}-01`, 'none'],
    [`00-${TRACE.toUpperCase()}-${SPAN}-01`, 'none'],
    [`00-${TRACE}-${SPAN}`, 'none'],
    ['', 'none'],
  ] as const) {
    it(`${JSON.stringify(text)} is ${what}`, () => {
      const caller = callerSpan(text, 'vendor=1');
      const expected = { traceId: TRACE, spanId: SPAN, isSampled: what === 'sampled', state: 'vendor=1' };
      assert.deepEqual(caller, what === 'none' ? undefined : expected);
    });
  }

  it('is none for other texts', () => {
    fc.assert(
      fc.property(fc.string(), text => {
        assert.equal(callerSpan(text), undefined);
      }),
    );
    assert.equal(callerSpan(undefined), undefined);
    assert.equal(callerSpan(`00-${TRACE}-${SPAN}-01`, 'x'.repeat(1000))?.state, '');
  });
});

describe('traces', function () {
  this.timeout(60_000);
  let open: Traces[] = [];
  afterEach(async () => {
    await Promise.all(open.map(traces => traces.close()));
    open = [];
  });
  const tracesTo = async (endpoint: string, samplesPerMillion = 1_000_000, log: Logger = silentLogger) => {
    const traces = await openTraces({ endpoint, samplesPerMillion }, '1.2.3', log);
    assert.ok(traces);
    open.push(traces);
    return traces;
  };
  const call = (traces: Traces, code = 0, parent?: string) => {
    const trace = traces.begin('runtime.v1.RuntimeService', 'Version', parent, 'vendor=1');
    trace?.end(code, code === 0 ? '' : 'it went wrong: https://user:secret@host/x?token=1');
    return trace !== undefined;
  };

  it('of nothing are nothing', async () => {
    assert.equal(await openTraces({ endpoint: '', samplesPerMillion: 1 }, '1', silentLogger), undefined);
  });

  it('have a span for a call and one for each of its steps and stages, in time', async () => {
    await using collector = await Collector.start();
    const traces = await tracesTo(collector.url);
    const trace = traces.begin('runtime.v1.RuntimeService', 'CreateContainer');
    trace?.stage('look for it');
    const from = process.hrtime.bigint();
    trace?.step('CreateContainer', 'make the spec', from, from + 2_000_000n);
    trace?.stage('make it');
    trace?.end(0, '');
    trace?.step('CreateContainer', 'what comes late', from, from);
    trace?.end(13, 'a second end');
    await traces.close();
    const spans = await collector.collected(4);
    assert.equal(spans.length, 4);
    const [{ path, type, body } = assert.fail()] = collector.requests;
    assert.deepEqual([path, type], ['/v1/traces', 'application/json']);
    const [resource] = body.resourceSpans;
    assert.equal(valueOf(resource?.resource ?? { attributes: [] }, 'service.name'), 'berthd');
    assert.deepEqual(resource?.scopeSpans[0]?.scope, { name: 'berth', version: '1.2.3' });
    const root = spans.find(({ kind }) => kind === 2);
    assert.ok(root);
    assert.equal(root.name, 'runtime.v1.RuntimeService/CreateContainer');
    assert.equal(root.parentSpanId, undefined);
    assert.equal(valueOf(root, 'rpc.grpc.status_code'), '0');
    const below = spans.filter(span => span !== root);
    assert.deepEqual(below.map(({ name }) => name).sort(), ['look for it', 'make it', 'make the spec']);
    for (const { traceId, parentSpanId, kind, spanId } of below) {
      assert.deepEqual([traceId, parentSpanId, kind], [root.traceId, root.spanId, 1]);
      assert.match(spanId, /^[0-9a-f]{16}$/);
    }
    const spec = below.find(({ name }) => name === 'make the spec');
    assert.equal(BigInt(spec?.endTimeUnixNano ?? 0) - BigInt(spec?.startTimeUnixNano ?? 0), 2_000_000n);
    assert.ok(BigInt(spec?.startTimeUnixNano ?? 0) >= BigInt(root.startTimeUnixNano));
    assert.ok(Math.abs(Number(root.startTimeUnixNano) / 1e6 - Date.now()) < 60_000);
  });

  it('are those that their callers want, as parts of theirs', async () => {
    await using collector = await Collector.start();
    const traces = await tracesTo(`${collector.url}/custom/path`, 0);
    assert.equal(call(traces), false);
    assert.equal(call(traces, 0, `00-${TRACE}-${SPAN}-00`), false);
    assert.equal(call(traces, 0, 'no trace parent'), false);
    assert.equal(call(traces, 0, `00-${TRACE}-${SPAN}-01`), true);
    await traces.close();
    const [span] = await collector.collected(1);
    assert.deepEqual([span?.traceId, span?.parentSpanId, span?.traceState], [TRACE, SPAN, 'vendor=1']);
    assert.equal(collector.requests[0]?.path, '/custom/path');
  });

  it('say what went wrong, without secrets; an error of the caller’s is none of the server’s', async () => {
    await using collector = await Collector.start();
    const traces = await tracesTo(collector.url);
    call(traces, 13);
    call(traces, 5);
    await traces.close();
    const [internal, notFound] = await collector.collected(2);
    assert.deepEqual(internal?.status, { code: 2, message: 'it went wrong: https://host/x?…' });
    assert.deepEqual(notFound?.status, { code: 0 });
    assert.equal(valueOf(notFound, 'error.message'), 'it went wrong: https://host/x?…');
    assert.equal(JSON.stringify(collector.requests).includes('secret'), false);
  });

  it('wait for a collector that comes later, in a bounded number, with a line in the log for each turn', async () => {
    const lines: string[] = [];
    const log: Logger = { ...silentLogger, warn: line => lines.push(line), info: line => lines.push(line) };
    const port = await freePort();
    const traces = await tracesTo(`http://127.0.0.1:${port}`, 1_000_000, log);
    for (let i = 0; i < 10_000; i++) call(traces);
    while (lines.length === 0) await new Promise(resolve => setTimeout(resolve, 20));
    await using collector = await Collector.start(port);
    const spans = await collector.collected(4096);
    while (lines.length < 2) await new Promise(resolve => setTimeout(resolve, 20));
    assert.equal(spans.length, 4096);
    assert.match(lines[0] ?? '', /^traces: 127\.0\.0\.1:\d+ is tried again and again: .*ECONNREFUSED/);
    assert.match(lines[1] ?? '', /takes spans again/);
    assert.equal(lines.length, 2);
  });

  it('that a collector refuses are gone, those that it cannot take now are not', async () => {
    await using collector = await Collector.start();
    const traces = await tracesTo(collector.url);
    collector.status = 503;
    call(traces, 1);
    await collector.asked(1);
    collector.status = 200;
    const [late] = await collector.collected(1);
    assert.equal(valueOf(late ?? { attributes: [] }, 'rpc.grpc.status_code'), '1');
    collector.status = 400;
    call(traces, 2);
    await collector.asked(3);
    collector.status = 200;
    call(traces, 3);
    await collector.collected(2);
    assert.deepEqual(
      collector.spans.map(span => valueOf(span, 'rpc.grpc.status_code')),
      ['1', '3'],
    );
  });

  it('do not hold up an end when the collector does not answer', async () => {
    await using collector = await Collector.start();
    collector.status = 0;
    const traces = await tracesTo(collector.url);
    call(traces);
    const closed = traces.close();
    await collector.asked(1);
    await closed;
  });
});
