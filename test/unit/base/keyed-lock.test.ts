import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { Context } from '../../../src/base/context';
import { KeyedLock } from '../../../src/base/keyed-lock';
import { silentLogger } from '../../../src/base/log';

describe('KeyedLock', () => {
  it('runs work of one key in the order of the calls and never twice at a time, also after failures', async () => {
    const call = fc.record({ key: fc.constantFrom('a', 'b'), turns: fc.nat(3), fails: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(call, { maxLength: 12 }), async calls => {
        const lock = new KeyedLock();
        const running = new Set<string>();
        const order: number[] = [];
        const results = calls.map(({ key, turns, fails }, index) =>
          lock.run(key, async () => {
            assert(!running.has(key), `two at a time for ${key}`);
            running.add(key);
            order.push(index);
            for (let i = 0; i < turns; i++) await turn();
            running.delete(key);
            if (fails) throw new Error('asked to fail');
            return index;
          }),
        );
        const settled = await Promise.allSettled(results);
        settled.forEach((result, index) => {
          if (result.status === 'fulfilled') assert.equal(result.value, index);
          else assert.equal((result.reason as Error).message, 'asked to fail');
        });
        for (const key of ['a', 'b']) {
          const ofKey = order.filter(index => calls[index]?.key === key);
          assert.deepEqual(
            ofKey,
            [...ofKey].sort((a, b) => a - b),
          );
        }
        assert.equal(order.length, calls.length);
      }),
    );
  });

  it('does not let keys wait for each other', async () => {
    const lock = new KeyedLock();
    let release = () => {};
    const held = lock.run('a', () => new Promise<void>(resolve => (release = resolve)));
    assert.equal(await lock.run('b', async () => 'went by'), 'went by');
    release();
    await held;
  });

  it('gives up a turn with the one who waits for it, and the next one has it', async () => {
    const lock = new KeyedLock();
    const ctx = Context.of(silentLogger);
    const first = await lock.turn(ctx, 'a');
    const cut = new AbortController();
    const gone = lock.turn(Context.of(silentLogger, { signal: cut.signal }), 'a');
    let hasIt = false;
    const next = lock.turn(ctx, 'a').then(one => ((hasIt = true), one));
    cut.abort();
    await assert.rejects(gone, { kind: 'cancelled' });
    assert.equal(hasIt, false);
    first[Symbol.dispose]();
    (await next)[Symbol.dispose]();
    assert.equal(await lock.run('a', async () => 'free'), 'free');
  });
});
