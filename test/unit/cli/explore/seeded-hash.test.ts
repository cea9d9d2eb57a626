import assert from 'node:assert/strict';
import { SeededHash } from '../../../../src/cli/explore/seeded-hash';

describe('the hash of paths', () => {
  const bytes = (from: number, to: number) => Buffer.from(Array.from({ length: to - from }, (_, i) => from + i));
  const seed = bytes(0, 8);

  it("is HalfSipHash's, of the bytes 0, 1, 2 … with the key 0 … 7", () => {
    const expected = [0x89466e2a, 0x69b6fac5, 0x23fc6358, 0xc563cf8b, 0x8f84b8d0, 0x79e706f8, 0x3479b094];
    const hash = new SeededHash(seed);
    const found = expected.map((_, i) => hash.of(0x03020100, bytes(4, 4 + i).toString('latin1')));
    assert.deepEqual(found, expected);
  });

  it('is another one in each process', () => {
    const hashes = Array.from({ length: 8 }, () => new SeededHash().of(1, 'name'));
    assert.ok(new Set(hashes).size > 1);
  });
});
