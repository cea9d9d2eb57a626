import assert from 'node:assert/strict';
import fc from 'fast-check';
import { FieldWriter, readFields } from '../../../src/native/fields';
import type { Shape } from '../../../src/native/plan-ops';

const values = {
  u32: fc.nat(0xffffffff),
  u64: fc.bigInt(0n, 2n ** 64n - 1n),
  str: fc.string({ unit: 'binary' }).filter(text => !text.includes('\0')),
  strs: fc.array(
    fc.string({ unit: 'binary' }).filter(text => !text.includes('\0')),
    { maxLength: 5 },
  ),
  bytes: fc.uint8Array({ maxLength: 5000 }).map(array => Buffer.from(array)),
};
type Readable = keyof typeof values;
const field = fc
  .constantFrom(...(Object.keys(values) as Readable[]))
  .chain(type => values[type].map(value => ({ type, value })));

describe('fields', () => {
  it('come back as they were written', () => {
    fc.assert(
      fc.property(fc.array(field, { maxLength: 12 }), list => {
        const named = list.map((item, i) => [`f${i}`, item] as const);
        const shape: Shape = {
          code: 1,
          fields: Object.fromEntries(named.map(([name, { type }]) => [name, type])),
        };
        const wanted = Object.fromEntries(named.map(([name, { value }]) => [name, value]));
        const out = new FieldWriter();
        out.fields(shape, wanted);
        assert.equal(out.length % 4, 0);
        assert.deepEqual(readFields(shape, Buffer.from(out.done())), wanted);
      }),
    );
  });

  it('that are cut short are an error, never a wrong value', () => {
    const shape: Shape = { code: 1, fields: { a: 'u32', b: 'str', c: 'u64' } };
    const out = new FieldWriter();
    out.fields(shape, { a: 1, b: 'text', c: 2n });
    const whole = Buffer.from(out.done());
    for (let length = 0; length < whole.length; length++) {
      assert.throws(() => readFields(shape, whole.subarray(0, length)), /cut short/, String(length));
    }
  });

  it('take no NUL within text', () => {
    const out = new FieldWriter();
    for (const text of ['a\0b', Buffer.from([1, 0])]) assert.throws(() => out.str(text), /NUL/);
  });

  it('grow beyond the first buffer', () => {
    const out = new FieldWriter();
    const big = Buffer.alloc(1_000_000, 7);
    out.bytes(big);
    assert.deepEqual(readFields({ code: 1, fields: { big: 'bytes' } }, out.done()), { big });
  });
});
