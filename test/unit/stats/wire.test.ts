import assert from 'node:assert/strict';
import fc from 'fast-check';
import { ContainerStats, CpuUsage, FilesystemIdentifier, PsiData } from '../../../src/cri';
import { Wire } from '../../../src/stats/wire';

/** The generated codec reads what the hand-written one writes. */
describe('the writer of messages', () => {
  it('writes integers of any size', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.nat(), fc.maxSafeNat(), fc.constantFrom(0, 127, 128, 2 ** 31, 2 ** 32, 2 ** 60)),
        value => {
          const wire = new Wire(1);
          wire.varint(1, value);
          assert.equal(CpuUsage.decode(wire.finish()).timestamp, BigInt(value));
        },
      ),
    );
  });

  it('tells zero from nothing', () => {
    const wire = new Wire(64);
    wire.uint64Value(2, 0);
    wire.uint64Value(3, undefined);
    const { usageCoreNanoSeconds, usageNanoCores } = CpuUsage.decode(wire.finish());
    assert.deepEqual([usageCoreNanoSeconds, usageNanoCores], [{ value: 0n }, undefined]);
  });

  it('writes texts and fractions', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 400 }), fc.double({ noNaN: true }), (text, fraction) => {
        const wire = new Wire(1);
        wire.string(1, text);
        assert.equal(FilesystemIdentifier.decode(wire.finish()).mountpoint, text);
        const other = new Wire(1);
        other.double(2, fraction);
        assert.equal(PsiData.decode(other.finish()).Avg10, fraction);
      }),
    );
  });

  it('puts messages of any length into one another', () => {
    for (const length of [0, 1, 100, 127, 128, 16_383, 16_384, 70_000]) {
      const wire = new Wire(16);
      const layer = wire.begin(4);
      const place = wire.begin(2);
      wire.string(1, 'x'.repeat(length));
      wire.end(place);
      wire.uint64Value(3, 7);
      wire.end(layer);
      const { writableLayer } = ContainerStats.decode(wire.finish());
      assert.equal(writableLayer?.fsId?.mountpoint.length, length);
      assert.deepEqual(writableLayer.usedBytes, { value: 7n });
    }
  });

  it('moves a list once, and has the next one in its memory', () => {
    for (const length of [3, 100_000, 5, 5_000_000, 7]) {
      const wire = Wire.ofList();
      const meanwhile = Wire.ofList();
      wire.string(1, 'x'.repeat(length));
      meanwhile.string(1, 'y'.repeat(9));
      const target = Buffer.alloc(wire.byteLength + 5);
      assert.equal(wire.moveTo(target, 5), target.length - 5);
      assert.equal(FilesystemIdentifier.decode(target.subarray(5)).mountpoint, 'x'.repeat(length));
      assert.equal(wire.byteLength, 0);
      assert.equal(FilesystemIdentifier.decode(meanwhile.finish()).mountpoint, 'y'.repeat(9));
    }
  });
});
