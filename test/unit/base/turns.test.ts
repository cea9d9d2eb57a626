import assert from 'node:assert/strict';
import { Turns } from '../../../src/base/turns';

describe('turns of the event loop', () => {
  it('are taken by one at a time, in order, and at once by who comes alone', async () => {
    const turns = new Turns();
    let turn = 0;
    let isOver = false;
    const count = () => void (isOver || (turn++, setImmediate(count)));
    count();
    const seen: [name: string, turn: number][] = [];
    const come = async (name: string) => {
      await turns.next();
      seen.push([name, turn]);
    };
    await Promise.all(['a', 'b', 'c'].map(come));
    assert.deepEqual(
      seen.map(([name]) => name),
      ['a', 'b', 'c'],
    );
    assert.equal(new Set(seen.map(([, at]) => at)).size, 3);
    await new Promise(setImmediate);
    assert.equal(turns.next(), undefined);
    isOver = true;
  });
});
