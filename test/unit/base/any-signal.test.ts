import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { anySignal } from '../../../src/base/any-signal';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';

describe('a signal of several', () => {
  let collectGarbage: () => void;

  before(() => {
    setFlagsFromString('--expose-gc');
    collectGarbage = runInNewContext('gc') as () => void;
  });

  /** In a turn of its own: what a function under way may still use is not collected. */
  const collect = async () => {
    await new Promise(resolve => setImmediate(resolve));
    collectGarbage();
  };

  it('aborts when the time is over, also when nobody else holds the time-out', async () => {
    const late = anySignal([AbortSignal.timeout(200), new AbortController().signal]);
    const aborted = once(late, 'abort');
    await collect();
    await aborted;
    assert.equal((late.reason as DOMException).name, 'TimeoutError');
  });

  it('aborts so, too, when it is made of another', async () => {
    const { signal } = Context.of(silentLogger, { signal: new AbortController().signal, timeoutMs: 200 });
    const late = anySignal([signal, new AbortController().signal]);
    const aborted = once(late, 'abort');
    await collect();
    await aborted;
    assert.ok(signal.aborted);
  });
});
