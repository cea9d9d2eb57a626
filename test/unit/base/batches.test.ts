import assert from 'node:assert/strict';
import { filterInBatches, inBatches } from '../../../src/base/batches';

describe('a long list in batches', () => {
  it('is the list, in its order, and lets others have their turn', async () => {
    const items = Array.from({ length: 25 }, (_, i) => i);
    const seen: number[] = [];
    let turns = 0;
    let isOver = false;
    const other = () => {
      turns++;
      if (!isOver) setImmediate(other);
    };
    setImmediate(other);
    for await (const batch of inBatches(items, 10)) seen.push(...batch);
    isOver = true;
    assert.deepEqual(seen, items);
    assert.ok(turns >= 2);
  });

  it('may be filtered', async () => {
    const items = Array.from({ length: 5000 }, (_, i) => i);
    assert.deepEqual(await filterInBatches(items, i => i % 1000 === 0), [0, 1000, 2000, 3000, 4000]);
    assert.deepEqual(await filterInBatches([], () => true), []);
  });
});
