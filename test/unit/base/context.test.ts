import assert from 'node:assert/strict';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';

const never = new Promise<never>(() => undefined);

describe('Context', () => {
  it('names the stage in which the time ran out', async () => {
    const context = Context.of(silentLogger, { timeoutMs: 20 });
    context.stage('pull layer 2 of 3');
    await assert.rejects(context.race(never), {
      kind: 'deadline_exceeded',
      message: 'gave up after 20 ms during: pull layer 2 of 3',
    });
    assert.throws(() => context.stage('unpack'), {
      kind: 'deadline_exceeded',
      message: 'gave up after 20 ms during: unpack',
    });
  });

  it('names the stage in which the caller went away', async () => {
    const caller = new AbortController();
    const context = Context.of(silentLogger, { signal: caller.signal, timeoutMs: 60_000 });
    context.stage('CNI ADD');
    setImmediate(() => caller.abort());
    const gone = { kind: 'cancelled', message: 'the caller went away during: CNI ADD' };
    await assert.rejects(context.race(never), gone);
    await assert.rejects(context.race(Promise.resolve('too late')), gone);
    assert.throws(() => context.throwIfEnded(), gone);
  });

  it('passes on what the work returns or throws', async () => {
    const context = Context.of(silentLogger);
    assert.equal(await context.race(Promise.resolve(7)), 7);
    await assert.rejects(context.race(Promise.reject(new Error('own'))), { message: 'own' });
  });

  it('leaves no unhandled rejection behind when the work fails after the end', async () => {
    const unhandled: unknown[] = [];
    const note = (reason: unknown) => unhandled.push(reason);
    process.on('unhandledRejection', note);
    try {
      const caller = new AbortController();
      const context = Context.of(silentLogger, { signal: caller.signal });
      const lateFailure = () => new Promise((_, reject) => setTimeout(() => reject(new Error('late')), 10));
      const raced = context.race(lateFailure());
      caller.abort();
      await assert.rejects(raced, { kind: 'cancelled' });
      await assert.rejects(context.race(lateFailure()), { kind: 'cancelled' });
      await new Promise(resolve => setTimeout(resolve, 30));
      assert.deepEqual(unhandled, []);
    } finally {
      process.off('unhandledRejection', note);
    }
  });
});
