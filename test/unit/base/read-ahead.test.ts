import assert from 'node:assert/strict';
import { readAhead } from '../../../src/base/read-ahead';

describe('reading ahead', () => {
  const numbers = (count: number) => Array.from({ length: count }, (_, i) => i);

  it('gives every thing once, in order, in parts', async () => {
    for (const count of [0, 1, 3, 4, 5, 8, 9]) {
      const parts: number[][] = [];
      for await (const part of readAhead(numbers(count), 4, async some => [...some])) parts.push(part);
      assert.deepEqual(parts.flat(), numbers(count));
      assert.equal(parts.length, Math.ceil(count / 4));
    }
  });

  it('has the next two parts under way while one is used, and no more than these', async () => {
    const begun: number[] = [];
    const read = async (some: readonly number[]) => begun.push(...some);
    let used = 0;
    for await (const _ of readAhead(numbers(12), 2, read)) {
      used += 2;
      assert.deepEqual(begun, numbers(Math.min(12, used + 4)));
    }
  });

  it('lets others have the event loop between two parts', async () => {
    let turns = 0;
    let isOver = false;
    const turn = () => {
      turns++;
      if (!isOver) setImmediate(turn);
    };
    setImmediate(turn);
    let last = -1;
    for await (const _ of readAhead(numbers(10), 2, async some => some)) {
      assert.ok(turns > last);
      last = turns;
    }
    isOver = true;
    assert.ok(last >= 4);
  });

  it('fails where a part cannot be read, and only where somebody waits for it', async () => {
    const read = async ([first = 0]: readonly number[]) => {
      if (first >= 4) throw new Error(`no ${first}`);
      return first;
    };
    const found: number[] = [];
    await assert.rejects(async () => {
      for await (const part of readAhead(numbers(8), 2, read)) found.push(part);
    }, /no 4/);
    assert.deepEqual(found, [0, 2]);
    // The one after this fails: an unhandled rejection would fail the run.
    for await (const part of readAhead(numbers(8), 2, read)) if (part === 2) break;
    await new Promise(resolve => setImmediate(resolve));
  });
});
