import assert from 'node:assert/strict';
import fc from 'fast-check';
import { decodeMessage, encodeMessage, type Message } from '../../../src/dbus/message';
import { Reader } from '../../../src/dbus/reader';
import { typesOf, type Value } from '../../../src/dbus/values';
import { Writer } from '../../../src/dbus/writer';

interface Typed {
  signature: string;
  value: Value;
}

const text = fc.string({ unit: 'grapheme' }).filter(s => !s.includes('\0'));
const typed = (signature: string, values: fc.Arbitrary<Value>) => values.map(value => ({ signature, value }));

const basic: fc.Arbitrary<Typed> = fc.oneof(
  typed('y', fc.integer({ min: 0, max: 255 })),
  typed('b', fc.boolean()),
  typed('n', fc.integer({ min: -32768, max: 32767 })),
  typed('q', fc.integer({ min: 0, max: 65535 })),
  typed('i', fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })),
  typed('u', fc.integer({ min: 0, max: 2 ** 32 - 1 })),
  typed('x', fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
  typed('t', fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  typed('d', fc.double({ noNaN: true })),
  typed('s', text),
  typed('o', fc.constantFrom('/', '/org/freedesktop/systemd1')),
  typed('g', fc.constantFrom('', 'a(sv)', 'a{sv}')),
);

/** Any value with its signature; arrays have several of the same value, which keeps the signature one. */
const { any } = fc.letrec<{ any: Typed }>(tie => ({
  any: fc.oneof(
    { maxDepth: 4 },
    basic,
    typed('ay', fc.uint8Array()),
    fc.tuple(tie('any'), fc.nat(3)).map(([{ signature, value }, n]) => ({
      signature: `a${signature === 'y' ? 'n' : signature}`,
      value: Array.from({ length: n }, () => value),
    })),
    fc.array(tie('any'), { minLength: 1, maxLength: 3 }).map(fields => ({
      signature: `(${fields.map(field => field.signature).join('')})`,
      value: fields.map(field => field.value),
    })),
    fc.tuple(basic, tie('any')).map(([key, { signature, value }]) => ({
      signature: `a{${key.signature}${signature}}`,
      value: [[key.value, value]],
    })),
    tie('any').map(inner => ({ signature: 'v', value: inner })),
  ),
}));

/** Bytes are compared as lists, whichever class holds them. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return { bytes: [...value] };
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
  }
  return value;
}

const bodies = fc.array(any, { maxLength: 4 }).filter(values => values.map(v => v.signature).join('').length < 200);
const messageOf = (values: readonly Typed[], more: Partial<Message> = {}): Message => ({
  type: 'call',
  serial: 7,
  path: '/a',
  member: 'Do',
  signature: values.map(({ signature }) => signature).join(''),
  body: values.map(({ value }) => value),
  ...more,
});

describe('D-Bus messages', () => {
  it('are read as they were written, whatever is in them', () => {
    fc.assert(
      fc.property(bodies, fc.uint8Array(), (values, next) => {
        const message = messageOf(values);
        const bytes = encodeMessage(message);
        const read = decodeMessage(Buffer.concat([bytes, next]));
        assert.deepEqual(plain(read?.message), plain(message));
        assert.equal(read?.length, bytes.length);
      }),
    );
  });

  it('are waited for while a byte is missing', () => {
    fc.assert(
      fc.property(bodies, fc.nat(), (values, cut) => {
        const bytes = encodeMessage(messageOf(values));
        assert.equal(decodeMessage(bytes.subarray(0, cut % bytes.length)), undefined);
      }),
    );
  });

  it('are a message or a RangeError when bytes of them are others', () => {
    fc.assert(
      fc.property(
        bodies,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        (values, changes) => {
          const bytes = encodeMessage(messageOf(values));
          for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
          try {
            decodeMessage(bytes);
          } catch (error) {
            assert.ok(error instanceof RangeError, String(error));
          }
        },
      ),
    );
  });

  it('are read as another library writes them', () => {
    const hello: Message = {
      type: 'call',
      serial: 1,
      path: '/org/freedesktop/DBus',
      interface: 'org.freedesktop.DBus',
      member: 'Hello',
      destination: 'org.freedesktop.DBus',
      signature: '',
      body: [],
    };
    // From libdbus, which has the fields in another order.
    const theirs = [
      '6c01000100000000010000006e000000',
      '01016f00150000002f6f72672f667265656465736b746f702f44427573000000',
      '06017300140000006f72672e667265656465736b746f702e4442757300000000',
      '02017300140000006f72672e667265656465736b746f702e4442757300000000',
      '030173000500000048656c6c6f000000',
    ].join('');
    assert.deepEqual(decodeMessage(Buffer.from(theirs, 'hex'))?.message, hello);
  });

  it('are laid out as the specification says', () => {
    const variant = { signature: 't', value: 5n };
    const message: Message = { type: 'call', serial: 2, path: '/', member: 'D', signature: 'sv', body: ['a', variant] };
    const expected = [
      '6c010001' + '18000000' + '02000000' + '28000000', // little endian, a call; bytes of the body; serial; of the fields
      '01016f00' + '01000000' + '2f00' + '000000000000',
      '03017300' + '01000000' + '4400' + '000000000000',
      '08016700' + '02737600',
      '01000000' + '6100' + '017400' + '00000000000000' + '0500000000000000',
    ].join('');
    assert.equal(encodeMessage(message).toString('hex'), expected);
  });

  it('of a big-endian sender are read, too', () => {
    const bytes = Buffer.from(
      '420200010000000c0000000900000010' + '0501750000000007' + '0801670002737500' + '0000000361626300' + 'ffffffff',
      'hex',
    );
    const read = decodeMessage(bytes);
    assert.deepEqual(read?.message, {
      type: 'reply',
      serial: 9,
      replySerial: 7,
      signature: 'su',
      body: ['abc', 0xffffffff],
    });
  });

  it('refuse values of another type, and numbers that do not fit', () => {
    const write = (signature: string, ...values: Value[]) => new Writer().values(signature, values);
    assert.throws(() => write('t', 1), TypeError);
    assert.throws(() => write('s', 'a\0b'), TypeError);
    assert.throws(() => write('su', 'a'), TypeError);
    assert.throws(() => write('v', 'a'), TypeError);
    assert.throws(() => write('(su)', ['a']), TypeError);
    assert.throws(() => write('u', -1), RangeError);
    assert.throws(() => write('t', -1n), RangeError);
    assert.throws(() => write('u', 1.5), TypeError);
  });

  it('refuse what is no signature, and what is nested without an end', () => {
    for (const signature of ['a', '(', '()', '(s', 'a{s}', 'a{vs}', '{ss}', 'e', ')', `${'a'.repeat(40)}s`]) {
      assert.throws(() => typesOf(signature), RangeError, signature);
    }
    const deep = Buffer.concat([
      ...Array.from({ length: 80 }, () => Buffer.from('\x01v\0')),
      Buffer.from('\x01y\0\x01'),
    ]);
    assert.throws(() => new Reader(deep, true).values('v'), RangeError);
  });
});
