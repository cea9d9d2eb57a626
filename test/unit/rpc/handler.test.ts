import assert from 'node:assert/strict';
import { Metadata, type ServerUnaryCall } from '@grpc/grpc-js';
import { silentLogger, type Logger } from '../../../src/base/log';
import { unary } from '../../../src/rpc/handler';

describe('a call', () => {
  const now = performance.now.bind(performance);
  const letGo = () => Reflect.deleteProperty(performance, 'now');
  afterEach(letGo);

  /** What is said at warning level of a call that takes `ms`, `allowedMs` of them with its caller's leave. */
  async function warnings(ms: number, allowedMs: number): Promise<string[]> {
    const said: string[] = [];
    const log: Logger = { ...silentLogger, with: () => log, warn: text => said.push(text) };
    const handler = unary(log, 'Some', (_, ctx) => {
      ctx.allow(allowedMs);
      performance.now = () => now() + ms;
      return {};
    });
    const call = { request: {}, metadata: new Metadata(), on: () => undefined };
    await new Promise(resolve => handler(call as unknown as ServerUnaryCall<object, object>, resolve));
    letGo();
    return said;
  }

  it('that was slow is told of, unless its caller has allowed that', async () => {
    assert.deepEqual(await warnings(6000, 0), ['slow call']);
    assert.deepEqual(await warnings(6000, 30_000), []);
    assert.deepEqual(await warnings(60_000, 30_000), ['slow call']);
    assert.deepEqual(await warnings(60_000, Infinity), []);
  });
});
