import assert from 'node:assert/strict';
import { WriteBehind } from '../../../src/image/write-behind';

const mebibyte = 1024 * 1024;

describe('writing behind', () => {
  let begun: (() => void)[];
  let fail: (() => void)[];
  const sync = () =>
    new Promise<void>((resolve, reject) => {
      begun.push(resolve);
      fail.push(() => reject(new Error('EIO')));
    });
  const turn = () => new Promise(setImmediate);

  beforeEach(() => ([begun, fail] = [[], []]));

  it('syncs whenever enough has come, of whatever, and never twice at once', async () => {
    await using behind = new WriteBehind(sync);
    behind.reached('a', 20 * mebibyte);
    behind.reached('b', 10 * mebibyte);
    assert.equal(begun.length, 0);
    behind.reached('a', 24 * mebibyte);
    assert.equal(begun.length, 1);
    behind.reached('b', 90 * mebibyte);
    assert.equal(begun.length, 1);
    begun[0]?.();
    await turn();
    behind.reached('b', 90 * mebibyte);
    assert.equal(begun.length, 2);
    begun[1]?.();
  });

  it('takes nothing away when a blob begins anew', async () => {
    await using behind = new WriteBehind(sync);
    for (const part of [1, 2, 3]) behind.reached('a', part * 10 * mebibyte);
    behind.reached('a', 0);
    assert.equal(begun.length, 0);
  });

  it('ends with a sync that begins after all others', async () => {
    await using behind = new WriteBehind(sync);
    behind.reached('a', 40 * mebibyte);
    let ended = false;
    const finished = behind.finish().then(() => void (ended = true));
    await turn();
    assert.equal(begun.length, 1);
    begun[0]?.();
    await turn();
    assert.deepEqual([begun.length, ended], [2, false]);
    begun[1]?.();
    await finished;
  });

  it('fails with what the sync of another one that writes failed with, and one that begins later does not', async () => {
    await using behind = new WriteBehind(sync);
    {
      await using other = new WriteBehind(sync);
      const finished = other.finish();
      await turn();
      fail[0]?.();
      await assert.rejects(finished, /EIO/);
    }
    await assert.rejects(behind.finish(), /EIO/);
    assert.equal(begun.length, 1);
    await using later = new WriteBehind(sync);
    const finished = later.finish();
    await turn();
    begun[1]?.();
    await finished;
  });

  it('fails with what an early sync failed with, which the last one would not hear again', async () => {
    await using behind = new WriteBehind(sync);
    behind.reached('a', 40 * mebibyte);
    fail[0]?.();
    await turn();
    await assert.rejects(behind.finish(), /EIO/);
    assert.equal(begun.length, 1);
  });

  it('is waited for when there is nothing to finish', async () => {
    let ended = false;
    const leaving = (async () => {
      await using behind = new WriteBehind(sync);
      behind.reached('a', 40 * mebibyte);
    })().then(() => void (ended = true));
    await turn();
    assert.equal(ended, false);
    begun[0]?.();
    await leaving;
  });
});
