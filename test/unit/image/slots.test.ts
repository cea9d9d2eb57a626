import assert from 'node:assert/strict';
import { Context } from '../../../src/base/context';
import { silentLogger } from '../../../src/base/log';
import { Slots } from '../../../src/image/slots';

const ctx = () => Context.of(silentLogger, {});
const turn = () => new Promise(resolve => setImmediate(resolve));

describe('slots', () => {
  /** Notes its name when it begins, and ends when it is told to. */
  const works = (slots: Slots) => {
    const begun: string[] = [];
    const ends = new Map<string, () => void>();
    const run = (owner: object, name: string, own = ctx()) =>
      slots.run(own, owner, async () => {
        begun.push(name);
        await new Promise<void>(resolve => ends.set(name, resolve));
      });
    const end = async (name: string) => {
      ends.get(name)?.();
      await turn();
    };
    return { begun, run, end };
  };

  it('are as many as there are, in the order of asking, but one for each owner in any case', async () => {
    const { begun, run, end } = works(new Slots(2));
    const [greedy, modest] = [{}, {}];
    const all = ['a', 'b', 'c', 'd'].map(name => run(greedy, name));
    all.push(run(modest, 'x'), run(modest, 'y'));
    await turn();
    assert.deepEqual(begun, ['a', 'b', 'x']);
    await end('x'); // its owner has nothing left that runs
    assert.deepEqual(begun, ['a', 'b', 'x', 'y']);
    await end('a'); // three ran, where there are two
    assert.deepEqual(begun, ['a', 'b', 'x', 'y']);
    await end('b');
    assert.deepEqual(begun, ['a', 'b', 'x', 'y', 'c']);
    await end('y');
    assert.deepEqual(begun, ['a', 'b', 'x', 'y', 'c', 'd']);
    await end('c');
    await end('d');
    await Promise.all(all);
  });

  it('are not taken by who has gone away while waiting', async () => {
    const { begun, run, end } = works(new Slots(1));
    const owner = {};
    const leaver = new AbortController();
    const first = run(owner, 'a');
    const gone = run(owner, 'b', Context.of(silentLogger, { signal: leaver.signal }));
    const last = run(owner, 'c');
    leaver.abort();
    await assert.rejects(gone, { kind: 'cancelled' });
    await end('a');
    await first;
    assert.deepEqual(begun, ['a', 'c']);
    await end('c');
    await last;
  });
});
