/** POSIX.1-1988 (ustar) headers, with GNU's base-256 for sizes of 8 GiB and more. */

const block = 512;
const octalMax = 8 ** 11;

export function tarFileHeader(name: string, sizeBytes: number): Buffer {
  return header(name, '0', 0o444, sizeBytes);
}

export function tarDirectoryHeader(name: string): Buffer {
  return header(`${name}/`, '5', 0o755, 0);
}

/** What follows the bytes of a file. */
export function tarPadding(sizeBytes: number): Buffer {
  return Buffer.alloc((block - (sizeBytes % block)) % block);
}

export function tarEnd(): Buffer {
  return Buffer.alloc(2 * block);
}

function header(name: string, type: string, mode: number, sizeBytes: number): Buffer {
  if (Buffer.byteLength(name) > 100) throw new RangeError(`${name} does not fit a tar header`);
  const bytes = Buffer.alloc(block);
  const octal = (value: number, at: number, length: number) =>
    bytes.write(value.toString(8).padStart(length - 1, '0'), at, length - 1, 'latin1');
  bytes.write(name, 0);
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  if (sizeBytes < octalMax) octal(sizeBytes, 124, 12);
  else {
    bytes.writeUInt8(0x80, 124);
    bytes.writeBigUInt64BE(BigInt(sizeBytes), 128);
  }
  octal(0, 136, 12); // no time: the same images are the same archive
  bytes.write(type, 156, 'latin1');
  bytes.write('ustar\x0000', 257, 'latin1');
  bytes.fill(' ', 148, 156);
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}
