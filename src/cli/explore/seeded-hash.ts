import { randomBytes } from 'node:crypto';

/**
 * HalfSipHash-2-4 with 32 bits (Aumasson and Bernstein, 2016), of a number and a text of one byte a character. Who does not
 * know the seed cannot make texts that meet in one place of a table.
 */
export class SeededHash {
  private readonly key0: number;
  private readonly key1: number;

  /** Eight bytes. */
  constructor(seed = randomBytes(8)) {
    this.key0 = seed.readInt32LE(0);
    this.key1 = seed.readInt32LE(4);
  }

  /** From 0 to 2^32 - 1. */
  of(number: number, text: string): number {
    const { key0, key1 } = this;
    let [v0, v1, v2, v3] = [key0, key1, key0 ^ 0x6c796765, key1 ^ 0x74656462];
    const words = (text.length >> 2) + 2; // the number's, the text's, and the last with what is left and the length
    for (let i = 0; i < words + 2; i++) {
      const word = i === 0 ? number : i < words ? wordAt(text, 4 * (i - 1)) : 0;
      if (i === words) v2 ^= 0xff; // the four rounds at the end
      v3 ^= word;
      for (let round = 0; round < 2; round++) {
        v0 = (v0 + v1) | 0;
        v1 = rotated(v1, 5) ^ v0;
        v0 = rotated(v0, 16);
        v2 = (v2 + v3) | 0;
        v3 = rotated(v3, 8) ^ v2;
        v0 = (v0 + v3) | 0;
        v3 = rotated(v3, 7) ^ v0;
        v2 = (v2 + v1) | 0;
        v1 = rotated(v1, 13) ^ v2;
        v2 = rotated(v2, 16);
      }
      v0 ^= word;
    }
    return (v1 ^ v3) >>> 0;
  }
}

function wordAt(text: string, at: number): number {
  let word = text.length - at >= 4 ? 0 : (text.length + 4) << 24;
  for (let i = Math.min(text.length - at, 4) - 1; i >= 0; i--) word |= text.charCodeAt(at + i) << (8 * i);
  return word;
}

function rotated(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
