import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Context } from '../../../src/base/context';
import { BerthError } from '../../../src/base/errors';
import { silentLogger } from '../../../src/base/log';
import { Events, type BerthEvent } from '../../../src/events/events';
import { forward } from '../../../src/events/subscription';

const happening = (action: string) => ({ type: 'container', action, id: 'c' }) as const;
const actionOf = ({ action }: BerthEvent) => action;

describe('events', () => {
  it('have times that grow, also within a millisecond and when the clock goes back', () => {
    let now = 1000;
    const events = new Events(undefined, { now: () => now });
    events.emit(happening('a'));
    events.emit(happening('b'));
    now = 500;
    events.emit(happening('c'));
    now = 2000;
    events.emit(happening('d'));
    assert.deepEqual(
      events.since(0n).map(({ timeNs }) => timeNs),
      [1_000_000_001n, 1_000_000_002n, 1_000_000_003n, 2_000_000_000n],
    );
    assert.deepEqual(events.since(1_000_000_002n).map(actionOf), ['c', 'd']);
  });

  it('of the past are kept up to a number, and it is known which are not', () => {
    const events = new Events({ keptMax: 3, waitingMax: 10 });
    const began = events.forgottenUntilNs;
    for (const name of ['1', '2', '3', '4', '5']) events.emit(happening(name));
    assert.equal(events.forgottenUntilNs, began);
    assert.equal(events.since(0n).length, 5);
    events.emit(happening('6'));
    const kept = events.since(0n);
    assert.deepEqual(kept.map(actionOf), ['4', '5', '6']);
    assert.ok(events.forgottenUntilNs < (kept[0]?.timeNs ?? 0n));
    assert.deepEqual(events.since(events.forgottenUntilNs), kept);
  });

  it('reach every subscriber in order, whatever they make of them', async () => {
    const events = new Events();
    using all = events.subscribe(actionOf);
    using some = events.subscribe(({ action }) => (action > 'b' ? action.toUpperCase() : undefined));
    const waiting = all.take();
    for (const name of ['a', 'b', 'c']) events.emit(happening(name));
    assert.deepEqual(await waiting, ['a', 'b', 'c']);
    events.emit(happening('d'));
    assert.deepEqual(await all.take(), ['d']);
    assert.deepEqual(await some.take(), ['C', 'D']);
  });

  it('are all heard by a reader that pauses, or it hears that it has missed some', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat({ max: 7 }), { maxLength: 30 }), async bursts => {
        const events = new Events({ keptMax: 10, waitingMax: 5 });
        const over = new AbortController();
        const ctx = Context.of(silentLogger, { signal: over.signal });
        using subscription = events.subscribe(actionOf);
        const heard: string[] = [];
        const reading = forward(subscription, ctx, async items => {
          heard.push(...items);
          return Promise.resolve(true);
        }).then(
          () => 'all',
          (error: unknown) => (error as BerthError).kind,
        );
        const emitted: string[] = [];
        for (const burst of bursts) {
          for (let i = 0; i < burst; i++) {
            emitted.push(`${emitted.length}`);
            events.emit(happening(emitted.at(-1) ?? ''));
          }
          await new Promise(resolve => setImmediate(resolve));
        }
        over.abort();
        const end = await reading;
        assert.deepEqual(heard, emitted.slice(0, heard.length));
        assert.equal(end, heard.length === emitted.length ? 'all' : 'resource_exhausted');
      }),
      { numRuns: 200 },
    );
  });

  it('that wait for a reader who does not read end it, with a sentence, and hold nothing', async () => {
    const events = new Events({ keptMax: 10, waitingMax: 2 });
    using subscription = events.subscribe(actionOf);
    const stuck = forward(subscription, Context.of(silentLogger), () => new Promise(() => undefined));
    events.emit(happening('read'));
    await new Promise(resolve => setImmediate(resolve));
    for (const name of ['1', '2', '3', '4']) events.emit(happening(name));
    await assert.rejects(stuck, (error: BerthError) => {
      assert.equal(error.kind, 'resource_exhausted');
      assert.match(error.message, /more than 2 wait for it.*subscribe again/);
      return true;
    });
  });

  it('end a subscription whose selection fails, and no other', async () => {
    const events = new Events();
    using broken = events.subscribe(() => {
      throw new Error('a bug');
    });
    using sound = events.subscribe(actionOf);
    events.emit(happening('a'));
    assert.deepEqual(await sound.take(), ['a']);
    assert.match(String(broken.ended.reason), /a bug/);
  });

  it('end when the daemon does, for those who come late, too', async () => {
    const events = new Events();
    using before = events.subscribe(actionOf);
    const reading = forward(before, Context.of(silentLogger), () => Promise.resolve(true));
    events.close();
    await assert.rejects(reading, { kind: 'unavailable' });
    using late = events.subscribe(actionOf);
    await assert.rejects(
      forward(late, Context.of(silentLogger), () => Promise.resolve(true)),
      { kind: 'unavailable' },
    );
  });
});
