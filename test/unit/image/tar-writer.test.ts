import assert from 'node:assert/strict';
import { tarDirectoryHeader, tarFileHeader, tarPadding } from '../../../src/image/tar-writer';
import { header } from '../../support/image-builder';

describe('the tar writer', () => {
  it('writes the fields of a header where others write them', () => {
    const own = tarFileHeader('index.json', 12345);
    const other = header({ path: 'index.json', mode: 0o444, mtime: 0 }, '0', 12345);
    for (const [from, to] of [
      [0, 107],
      [124, 135],
      [156, 263],
    ] as const)
      assert.deepEqual(own.subarray(from, to), other.subarray(from, to));
    const sum = (block: Buffer) => block.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    assert.equal(parseInt(own.toString('latin1', 148, 154), 8), sum(own));
    assert.equal(tarDirectoryHeader('blobs').toString('latin1', 0, 7), 'blobs/\0');
  });

  it('writes sizes that eleven octal digits do not hold', () => {
    assert.equal(tarFileHeader('a', 8 ** 11 - 1).toString('latin1', 124, 135), '77777777777');
    const large = tarFileHeader('a', 2 ** 40 + 5);
    assert.equal(large[124], 0x80);
    assert.equal(large.readBigUInt64BE(128), 2n ** 40n + 5n);
  });

  it('fills blocks up, and refuses a name that does not fit', () => {
    assert.deepEqual(
      [0, 1, 512, 513].map(size => tarPadding(size).length),
      [0, 511, 0, 511],
    );
    assert.throws(() => tarFileHeader('x'.repeat(101), 0), RangeError);
  });
});
