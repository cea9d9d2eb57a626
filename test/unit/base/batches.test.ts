import assert from 'node:assert/strict';
import fc from 'fast-check';
import { filterInBatches, inBatches, sortInBatches } from '../../../src/base/batches';

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

  it('sorts as it is done at once, and keeps the order of equals', async () => {
    const item = fc.record({ key: fc.nat(5), text: fc.string() });
    await fc.assert(
      fc.asyncProperty(fc.array(item, { maxLength: 30 }), fc.integer({ min: 1, max: 7 }), async (items, size) => {
        const byKey = (a: { key: number }, b: { key: number }) => a.key - b.key;
        assert.deepEqual(await sortInBatches(items, byKey, size), [...items].sort(byKey));
      }),
    );
  });

  it('gives others their turn while it sorts', async () => {
    let turns = 0;
    let isSorted = false;
    const count = () => void (isSorted || (turns++, setImmediate(count)));
    setImmediate(count);
    const items = Array.from({ length: 100 }, (_, i) => ({ key: -i }));
    await sortInBatches(items, (a, b) => a.key - b.key, 10);
    isSorted = true;
    assert.ok(turns >= 40, `${turns} turns`);
  });
});
