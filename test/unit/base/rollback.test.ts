import assert from 'node:assert/strict';
import { silentLogger } from '../../../src/base/log';
import { type Leftover, Rollback } from '../../../src/base/rollback';

describe('Rollback', () => {
  const boom = new Error('boom');
  /** Runs `work` in a rollback that fails at its end; returns what was recorded. */
  const failing = async (work: (undo: Rollback, done: string[]) => Promise<void>, stepTimeoutMs?: number) => {
    const done: string[] = [];
    const left: Leftover[] = [];
    const scope = async () => {
      await using undo = new Rollback(silentLogger, leftovers => left.push(...leftovers), stepTimeoutMs);
      await work(undo, done);
      throw boom;
    };
    await assert.rejects(scope, boom);
    return { done, left };
  };

  it('undoes in reverse, with what was made, and lets the cause through', async () => {
    const { done, left } = await failing(async (undo, log) => {
      for (const name of ['a', 'b', 'c'])
        await undo.step(
          name,
          async () => `made ${name}`,
          made => log.push(`undo ${made}`),
        );
    });
    assert.deepEqual(done, ['undo made c', 'undo made b', 'undo made a']);
    assert.deepEqual(left, []);
  });

  it('undoes nothing after commit', async () => {
    const { done } = await failing(async (undo, log) => {
      await undo.step(
        'a',
        () => 1,
        () => log.push('a'),
      );
      undo.commit();
    });
    assert.deepEqual(done, []);
  });

  it('does not undo the step that failed, unless it may have half happened', async () => {
    const fail = () => {
      throw boom;
    };
    const plain = await failing((undo, log) => undo.step('a', fail, () => log.push('a')));
    assert.deepEqual(plain.done, []);
    const halfway = await failing((undo, log) => undo.step('a', fail, () => log.push('a'), { alsoIfActFailed: true }));
    assert.deepEqual(halfway.done, ['a']);
  });

  it('goes on after an undo that fails or hangs, and hands over what is left', async () => {
    const { done, left } = await failing(async (undo, log) => {
      await undo.step(
        'first',
        () => 1,
        () => log.push('first'),
      );
      await undo.step(
        'hangs',
        () => 1,
        () => new Promise(() => undefined),
      );
      await undo.step(
        'fails',
        () => 1,
        () => Promise.reject(new Error('busy')),
      );
      await undo.step(
        'last',
        () => 1,
        () => log.push('last'),
      );
    }, 20);
    assert.deepEqual(done, ['last', 'first']);
    assert.deepEqual(left, [
      { step: 'fails', reason: 'busy' },
      { step: 'hangs', reason: 'gave up after 20 ms' },
    ]);
  });

  it('does not hide the cause when the leftovers cannot be recorded', async () => {
    const scope = async () => {
      await using undo = new Rollback(silentLogger, () => Promise.reject(new Error('disk full')));
      await undo.step(
        'a',
        () => 1,
        () => Promise.reject(new Error('busy')),
      );
      throw boom;
    };
    await assert.rejects(scope, boom);
  });
});
