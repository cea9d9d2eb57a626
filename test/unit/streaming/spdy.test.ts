import assert from 'node:assert/strict';
import { Duplex } from 'node:stream';
import { constants, createDeflate, createInflate, deflateSync } from 'node:zlib';
import fc from 'fast-check';
import { BerthError } from '../../../src/base/errors';
import { SpdyConnection, type SpdyStream } from '../../../src/streaming/spdy/connection';
import { DICTIONARY, DICTIONARY_ID } from '../../../src/streaming/spdy/dictionary';
import {
  dataHeader,
  FrameReader,
  goaway,
  ping,
  rstStream,
  synReply,
  type Frame,
} from '../../../src/streaming/spdy/frames';
import { HeaderReader, HeaderWriter } from '../../../src/streaming/spdy/headers';
import { controlFrame } from '../../support/spdy-client';

const hex = (text: string) => Buffer.from(text.replace(/\s/g, ''), 'hex');
const isBroken = (error: unknown) => error instanceof BerthError && error.kind === 'invalid_argument';

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Headers as they stand in a block, uncompressed. */
function plainBlock(headers: [string, string][], count = headers.length): Buffer {
  const text = (value: string) => Buffer.concat([u32(value.length), Buffer.from(value, 'latin1')]);
  return Buffer.concat([u32(count), ...headers.flatMap(([name, value]) => [text(name), text(value)])]);
}

/** Compresses blocks as one stream. */
class Compressor {
  private readonly deflate = createDeflate({ dictionary: DICTIONARY });

  async block(bytes: Buffer): Promise<Buffer> {
    const parts: Buffer[] = [];
    const take = (part: Buffer) => parts.push(part);
    this.deflate.on('data', take);
    this.deflate.write(bytes);
    await new Promise<void>(resolve => this.deflate.flush(constants.Z_SYNC_FLUSH, () => resolve()));
    this.deflate.off('data', take);
    return Buffer.concat(parts);
  }
}

function framesOf(bytes: Buffer, cuts: number[] = []): Frame[] {
  const reader = new FrameReader();
  const at = [...new Set(cuts.map(cut => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  const pieces = [...at, bytes.length].map((end, i) => bytes.subarray(at[i - 1] ?? 0, end));
  return pieces.flatMap(piece => [...reader.take(Buffer.from(piece))]);
}

/** Pieces of one data frame as one. */
function joined(frames: Frame[]): Frame[] {
  const whole: Frame[] = [];
  for (const frame of frames) {
    const last = whole.at(-1);
    if (frame.kind === 'data' && last?.kind === 'data' && last.streamId === frame.streamId) {
      last.bytes = Buffer.concat([last.bytes, frame.bytes]);
      last.fin = frame.fin;
    } else whole.push({ ...frame });
  }
  return whole;
}

describe('SPDY/3.1', () => {
  it("has the specification's dictionary", () => {
    let a = 1;
    let b = 0;
    for (const byte of DICTIONARY) {
      a = (a + byte) % 65521;
      b = (b + a) % 65521;
    }
    assert.equal(DICTIONARY.length, 1423);
    assert.equal(b * 65536 + a, DICTIONARY_ID);
  });

  describe('frames', () => {
    it('are written as the specification draws them', () => {
      assert.deepEqual(dataHeader(5, 0, 0x012345), hex('00000005 00 012345'));
      assert.deepEqual(dataHeader(0x7fffffff, 1, 0), hex('7fffffff 01 000000'));
      assert.deepEqual(rstStream(3, 5), hex('80030003 00 000008 00000003 00000005'));
      assert.deepEqual(ping(hex('00000001')), hex('80030006 00 000004 00000001'));
      assert.deepEqual(goaway(7, 1), hex('80030007 00 000008 00000007 00000001'));
      assert.deepEqual(synReply(1, hex('aabb')), hex('80030002 00 000006 00000001 aabb'));
    });

    it('are read however they are cut', () => {
      const bytes = hex(
        '80030001 01 00000c 00000001 00000000 0000 abcd' +
          '00000001 00 000005 68656c6c6f' +
          '00000003 01 000000' +
          '80030006 00 000004 00000009' +
          '00000001 01 000002 6869',
      );
      const wanted: Frame[] = [
        { kind: 'control', type: 1, flags: 1, payload: hex('00000001 00000000 0000 abcd') },
        { kind: 'data', streamId: 1, bytes: Buffer.from('hello'), fin: false },
        { kind: 'data', streamId: 3, bytes: Buffer.alloc(0), fin: true },
        { kind: 'control', type: 6, flags: 0, payload: hex('00000009') },
        { kind: 'data', streamId: 1, bytes: Buffer.from('hi'), fin: true },
      ];
      assert.deepEqual(framesOf(bytes), wanted);
      for (let cut = 0; cut <= bytes.length; cut++) assert.deepEqual(joined(framesOf(bytes, [cut])), wanted);
      fc.assert(
        fc.property(fc.array(fc.nat(), { maxLength: 20 }), cuts => {
          assert.deepEqual(joined(framesOf(bytes, cuts)), wanted);
        }),
        { numRuns: 200 },
      );
    });

    it('of another version, or too long, are refused before they are held', () => {
      assert.throws(() => framesOf(controlFrame(1, 0, Buffer.alloc(4), 2)), isBroken);
      assert.throws(() => framesOf(hex('80030001 00 004001')), isBroken);
      assert.throws(() => framesOf(hex('80030001 00 ffffff')), isBroken);
    });

    it('of data are not held: as they come they are handed on', () => {
      const reader = new FrameReader();
      const got = [...reader.take(Buffer.concat([hex('00000001 01 ffffff'), Buffer.alloc(1000)]))];
      assert.equal(got.length, 1);
      for (let i = 0; i < 100; i++) {
        const [frame] = reader.take(Buffer.alloc(1000));
        assert.ok(frame?.kind === 'data' && frame.bytes.length === 1000 && !frame.fin);
      }
    });
  });

  describe('headers', () => {
    it('are read from one zlib stream over all blocks', async () => {
      const reader = new HeaderReader();
      const compressor = new Compressor();
      for (const type of ['error', 'stdin', 'stdout']) {
        const block = await compressor.block(
          plainBlock([
            ['StreamType', type],
            ['port', '80'],
          ]),
        );
        assert.deepEqual(
          [...(await reader.read(block))],
          [
            ['streamtype', type],
            ['port', '80'],
          ],
        );
      }
      reader.close();
    });

    it('name the dictionary in their first block', async () => {
      const reader = new HeaderReader();
      const golden = deflateSync(plainBlock([['streamtype', 'error']]), {
        dictionary: DICTIONARY,
        finishFlush: constants.Z_SYNC_FLUSH,
      });
      assert.equal(golden.readUInt32BE(2), DICTIONARY_ID);
      assert.equal((await reader.read(golden)).get('streamtype'), 'error');
      reader.close();
    });

    it('a bomb is refused, whatever it would inflate to (CVE-2026-35469)', async () => {
      const bombs: [string, Buffer][] = [
        ['many bytes', plainBlock([['a', 'x'.repeat(8_000_000)]])],
        ['many headers', plainBlock(Array.from({ length: 3000 }, (_, i) => [`h${i}`, '']))],
        ['a count that is not there', plainBlock([], 0xffffffff)],
        ['a length that is not there', Buffer.concat([u32(1), u32(0xfffffff0), Buffer.from('ab')])],
        ['a block that ends early', plainBlock([['name', 'value']]).subarray(0, 12)],
      ];
      for (const [what, bomb] of bombs) {
        const reader = new HeaderReader();
        await assert.rejects(reader.read(await new Compressor().block(bomb)), isBroken, what);
        reader.close();
      }
    });

    it('what is no zlib stream of this dictionary is refused, and what comes after it', async () => {
      for (const junk of [Buffer.from('junk'), Buffer.alloc(100, 255), deflateSync(Buffer.from('other'))]) {
        const reader = new HeaderReader();
        await assert.rejects(async () => {
          await reader.read(junk);
          await reader.read(junk);
        }, isBroken);
        reader.close();
      }
    });

    it('anything at all either reads or is refused', async () => {
      await fc.assert(
        fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.boolean(), async (bytes, isDeflated) => {
          const reader = new HeaderReader();
          const block = isDeflated ? await new Compressor().block(Buffer.from(bytes)) : Buffer.from(bytes);
          await reader.read(block).catch((error: unknown) => assert.ok(isBroken(error), String(error)));
          reader.close();
        }),
        { numRuns: 300 },
      );
    });

    it('of replies are stored blocks that an inflater hands out one by one', async () => {
      const writer = new HeaderWriter();
      const first = writer.none();
      const second = writer.none();
      assert.deepEqual(first, hex('78bb e3c6a7c2 00 0400 fbff 00000000 00 0000 ffff'));
      assert.deepEqual(second, hex('00 0400 fbff 00000000 00 0000 ffff'));
      const inflate = createInflate({ dictionary: DICTIONARY, flush: constants.Z_SYNC_FLUSH });
      let got = 0;
      inflate.on('data', (part: Buffer) => (got += part.length));
      for (const [block, wanted] of [
        [first, 4],
        [second, 8],
      ] as const) {
        await new Promise<void>(resolve => inflate.write(block, () => resolve()));
        assert.equal(got, wanted);
      }
    });
  });

  describe('a connection', () => {
    /** What the server writes is collected; the test writes what the client would. */
    class Wire extends Duplex {
      sent: Buffer = Buffer.alloc(0);
      override _read(): void {
        // The test pushes.
      }
      override _write(chunk: Buffer, _encoding: string, done: () => void): void {
        this.sent = Buffer.concat([this.sent, chunk]);
        done();
      }
    }

    const syn = async (compressor: Compressor, id: number, headers: [string, string][] = [], flags = 0) =>
      controlFrame(
        1,
        flags,
        Buffer.concat([u32(id), u32(0), hex('0000'), await compressor.block(plainBlock(headers))]),
      );

    async function run(
      bytes: Buffer,
      onStream: (stream: SpdyStream) => void = stream => stream.accept(),
      maxStreams = 3,
    ) {
      const wire = new Wire();
      const connection = new SpdyConnection(wire, { maxStreams, onStream });
      wire.push(bytes);
      wire.push(null);
      const failure = await connection.run().then(
        () => undefined,
        (error: unknown) => error,
      );
      return { failure, sent: framesOf(wire.sent) };
    }

    it('refuses more streams than it may have, and goes on', async () => {
      const c = new Compressor();
      const bytes = Buffer.concat([
        await syn(c, 1),
        await syn(c, 3),
        await syn(c, 5),
        await syn(c, 7),
        controlFrame(6, 0, u32(1)),
      ]);
      const { failure, sent } = await run(bytes);
      assert.equal(failure, undefined);
      assert.deepEqual(
        sent.map(frame => frame.kind === 'control' && frame.type),
        [2, 2, 2, 3, 6],
      );
    });

    it('ends when stream ids do not rise, or are the server’s', async () => {
      for (const ids of [[1, 1], [3, 1], [2], [0]]) {
        const c = new Compressor();
        const frames: Buffer[] = [];
        for (const id of ids) frames.push(await syn(c, id));
        const { failure, sent } = await run(Buffer.concat(frames));
        assert.ok(isBroken(failure), String(ids));
        const last = sent.at(-1);
        assert.ok(last?.kind === 'control' && last.type === 7);
      }
    });

    it('keeps the zlib stream true over frames that it does not look at', async () => {
      const c = new Compressor();
      const seen: string[] = [];
      const bytes = Buffer.concat([
        await syn(c, 1, [['streamtype', 'error']]),
        controlFrame(8, 0, Buffer.concat([u32(1), await c.block(plainBlock([['more', 'x']]))])),
        controlFrame(4, 0, Buffer.alloc(12)),
        controlFrame(9, 0, Buffer.alloc(8)),
        await syn(c, 3, [['streamtype', 'stdin']]),
      ]);
      const { failure } = await run(bytes, stream => seen.push(stream.headers.get('streamtype') ?? ''));
      assert.equal(failure, undefined);
      assert.deepEqual(seen, ['error', 'stdin']);
    });

    it('hands data on in order, holds what comes early, and an error of a stream ends that stream only', async () => {
      const c = new Compressor();
      const got: string[] = [];
      const data = (id: number, text: string, fin = false) =>
        Buffer.concat([dataHeader(id, fin ? 1 : 0, text.length), Buffer.from(text)]);
      const bytes = Buffer.concat([
        await syn(c, 1),
        data(1, 'one '),
        await syn(c, 3),
        data(3, 'dropped'),
        data(1, 'two', true),
        data(99, 'nobody’s'),
      ]);
      const { failure } = await run(bytes, stream => {
        if (stream.id === 3) return stream.reset();
        setImmediate(() =>
          stream.read({
            data: chunk => void got.push(chunk.toString()),
            end: () => got.push('end'),
            gone: () => got.push('gone'),
          }),
        );
      });
      assert.equal(failure, undefined);
      await new Promise(resolve => setImmediate(resolve));
      assert.equal(got.join(''), 'one twoend' + (got.includes('gone') ? 'gone' : ''));
    });

    it('does not hold answers that the client does not read', async () => {
      class Stuck extends Wire {
        override _write(): void {
          // Nobody reads.
        }
      }
      const wire = new Stuck();
      const running = new SpdyConnection(wire, { maxStreams: 1, onStream: stream => stream.accept() }).run();
      const pings = Buffer.concat(Array.from({ length: 10_000 }, () => controlFrame(6, 0, u32(1))));
      for (let i = 0; i < 10; i++) wire.push(pings);
      for (let i = 0; i < 100; i++) await new Promise(resolve => setImmediate(resolve));
      assert.ok(wire.writableLength > 0 && wire.writableLength < 64 * 1024, String(wire.writableLength));
      wire.destroy();
      await running;
    });

    it('survives, or refuses, anything at all', async () => {
      const c = new Compressor();
      const opening = await syn(c, 1, [['streamtype', 'error']]);
      const frame = fc.oneof(
        fc
          .record({
            type: fc.integer({ min: 0, max: 12 }),
            flags: fc.nat(255),
            payload: fc.uint8Array({ maxLength: 60 }),
          })
          .map(({ type, flags, payload }) => controlFrame(type, flags, Buffer.from(payload))),
        fc
          .record({ id: fc.nat(8), flags: fc.nat(255), payload: fc.uint8Array({ maxLength: 60 }) })
          .map(({ id, flags, payload }) => Buffer.concat([dataHeader(id, flags, payload.length), payload])),
        fc.uint8Array({ maxLength: 40 }).map(bytes => Buffer.from(bytes)),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(frame, { maxLength: 12 }), async frames => {
          const { failure } = await run(Buffer.concat([opening, ...frames]), stream => {
            stream.accept();
            stream.read({ data: () => undefined, end: () => stream.end(), gone: () => undefined });
          });
          assert.ok(failure === undefined || isBroken(failure), String(failure));
        }),
        { numRuns: 500 },
      );
    });
  });
});
