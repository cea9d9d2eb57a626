import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Context } from '../../../src/base/context';
import { BerthError } from '../../../src/base/errors';
import { silentLogger } from '../../../src/base/log';
import { digestOf } from '../../../src/image/digest';
import { PullBook, type Pull } from '../../../src/image/pulls';
import type { LayerProgress } from '../../../src/image/pull';

const layer = (name: string) => digestOf(Buffer.from(name));
const id = layer('config');
const event = (name: string, phase: LayerProgress['phase'], doneBytes: number, totalBytes = 1000): LayerProgress => ({
  layer: layer(name),
  phase,
  doneBytes,
  totalBytes,
});

/** A book whose clock the test sets. */
function bookAt(start: number) {
  const clock = { at: start, now: () => clock.at };
  const book = new PullBook(undefined, clock);
  const ctx = Context.of(silentLogger);
  let pull: Pull | undefined;
  let settle: { done(): void; fail(error: Error): void } | undefined;
  const ended = book
    .during(ctx, { reference: 'registry.example/app:1', operation: 'pull' }, async own => {
      pull = own;
      await new Promise<void>((resolve, reject) => (settle = { done: resolve, fail: reject }));
      return { id };
    })
    .catch((error: unknown) => error);
  if (!pull || !settle) throw new Error('work is started at once');
  return { book, clock, ctx, pull, settle, ended };
}

describe('the book of pulls', () => {
  it('knows who asked, the step, the layers and how it ended, and forgets after a minute', async () => {
    const { book, clock, ctx, pull, settle, ended } = bookAt(1_000_000);
    pull.askedBy('cri');
    pull.askedBy('person');
    pull.askedBy('cri');
    ctx.stage('read the manifest of registry.example/app:1');
    pull.take(event('a', 'exists', 1000));
    pull.take(event('b', 'waiting', 0, 500));
    const [running] = book.list();
    assert.deepEqual(running?.askedBy, ['cri', 'person']);
    assert.equal(running.stage, 'read the manifest of registry.example/app:1');
    assert.deepEqual([running.doneBytes, running.totalBytes], [0, 500]);
    assert.equal(running.outcome, undefined);
    assert.equal(book.runningOf('registry.example/app:1').length, 1);

    pull.take(event('b', 'done', 500, 500));
    clock.at += 2000;
    settle.done();
    await ended;
    const [over] = book.list();
    assert.deepEqual(
      [over?.outcome, over?.imageId, over?.doneBytes, over?.endedAtMs],
      ['succeeded', id, 500, 1_002_000],
    );
    assert.deepEqual(book.runningOf('registry.example/app:1'), []);
    clock.at += 59_999;
    assert.equal(book.list().length, 1);
    clock.at += 1;
    assert.deepEqual(book.list(), []);
  });

  it('tells a failure from an end that nobody waited for', async () => {
    const failing = bookAt(0);
    failing.settle.fail(new BerthError('unavailable', 'https://user:secret@registry.example/ answered 503'));
    await failing.ended;
    const [failed] = failing.book.list();
    assert.deepEqual([failed?.outcome, failed?.error], ['failed', 'https://registry.example/ answered 503']);
    const leaving = bookAt(0);
    leaving.settle.fail(new BerthError('cancelled', 'the caller went away'));
    await leaving.ended;
    assert.equal(leaving.book.list()[0]?.outcome, 'cancelled');
  });

  it('has a rate that follows what comes, and the time that is left', () => {
    const { book, clock, pull } = bookAt(0);
    for (let second = 0; second <= 10; second++) {
      clock.at = second * 1000;
      pull.take(event('a', 'downloading', second * 1_000_000, 100_000_000));
    }
    const steady = book.list()[0];
    assert.ok(Math.abs((steady?.bytesPerSecond ?? 0) - 1_000_000) < 10_000, `${steady?.bytesPerSecond}`);
    assert.ok(Math.abs((steady?.remainingSeconds ?? 0) - 90) <= 1, `${steady?.remainingSeconds}`);
    clock.at += 60_000;
    const stalled = book.list()[0];
    assert.ok((stalled?.bytesPerSecond ?? 1) < 10);
  });

  it('never counts backwards, whatever is fetched twice, and ends at the total', () => {
    const phases = fc.constantFrom('waiting', 'downloading', 'done' as const);
    const events = fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), phases, fc.nat(1200)), { maxLength: 40 });
    fc.assert(
      fc.property(events, list => {
        const { book, pull } = bookAt(0);
        for (const name of ['a', 'b', 'c']) pull.take(event(name, 'waiting', 0));
        let last = 0;
        for (const [name, phase, done] of list) {
          pull.take(event(name, phase, done));
          const [now] = book.list();
          assert.ok(now && now.doneBytes >= last && now.doneBytes <= now.totalBytes && now.totalBytes === 3000);
          last = now.doneBytes;
        }
        for (const name of ['a', 'b', 'c']) pull.take(event(name, 'done', 1000));
        assert.equal(book.list()[0]?.doneBytes, 3000);
      }),
    );
  });

  it('wakes who waits for a change, and nobody twice', async () => {
    const { book, pull } = bookAt(0);
    let woken = 0;
    const waiting = book.nextChange(new AbortController().signal).then(() => woken++);
    pull.take(event('a', 'waiting', 0));
    pull.take(event('a', 'downloading', 1));
    await waiting;
    assert.equal(woken, 1);
    const gone = new AbortController();
    const leaving = book.nextChange(gone.signal);
    gone.abort();
    await leaving;
  });
});
