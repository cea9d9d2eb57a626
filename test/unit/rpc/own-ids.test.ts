import assert from 'node:assert/strict';
import { OwnIds } from '../../../src/rpc/own-ids';
import type { Sandbox } from '../../../src/sandbox/sandboxes';

const FIRST = 2 ** 31;

describe('ids of people’s user namespaces', () => {
  const pod = (first: number, count: number) => {
    const range = { first, count };
    return { record: { userns: { uid: range, gid: range } } } as unknown as Sandbox;
  };

  it('are nobody else’s, also of pods that are being made at the same time', () => {
    const ids = new OwnIds({ list: () => [pod(FIRST, 10), pod(FIRST + 30, 10), { record: {} } as Sandbox] });
    const one = ids.take('auto:size=20');
    const two = ids.take('auto:size=20');
    assert.deepEqual(one.range, { first: FIRST + 10, count: 20 });
    assert.deepEqual(two.range, { first: FIRST + 40, count: 20 });
    one[Symbol.dispose]();
    assert.deepEqual(ids.take('auto:size=20').range, one.range);
    assert.deepEqual(ids.take('auto').range, { first: FIRST + 60, count: 65_536 });
  });

  it('are none for the node’s user namespace, and never too few', () => {
    const ids = new OwnIds({ list: () => [] });
    assert.deepEqual([ids.take('').range, ids.take('host').range], [undefined, undefined]);
    for (const mode of ['own', 'auto:size=0', 'auto:size=x'])
      assert.throws(() => ids.take(mode), /--userns .* is not known; it is host, auto or auto:size=65536/);
    const full = new OwnIds({ list: () => [pod(FIRST, 2 ** 31 - 1)] });
    assert.throws(() => full.take('auto'), /no ids are left/);
  });
});
