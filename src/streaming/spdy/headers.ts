import { constants, createInflate, type Inflate } from 'node:zlib';
import { DICTIONARY, DICTIONARY_ID } from './dictionary';
import { broken } from './frames';

/** A block of headers is a few hundred bytes; more than this is meant to hurt (CVE-2026-35469). */
const MAX_BLOCK_BYTES = 64 * 1024;
const MAX_HEADERS = 100;

/** Names in lower case, as SPDY has them. */
export type Headers = ReadonlyMap<string, string>;

/**
 * Inflates the header blocks of one connection: they are one zlib stream, so every block has to go through here, in
 * order and one at a time.
 */
export class HeaderReader {
  private readonly inflate: Inflate;
  private parts: Buffer[] = [];
  private bytes = 0;
  private failure: Error | undefined;
  private onFailure: ((error: Error) => void) | undefined;

  constructor() {
    this.inflate = createInflate({
      dictionary: DICTIONARY,
      flush: constants.Z_SYNC_FLUSH,
      chunkSize: 4096, // with the count below, the most that a block of any kind makes us hold
    });
    this.inflate.on('error', () => this.fail(broken('a block of headers cannot be inflated')));
    this.inflate.on('data', (part: Buffer) => this.take(part));
  }

  /** Throws `invalid_argument` for what is no block, or is too much; the connection cannot go on then. */
  async read(block: Buffer): Promise<Headers> {
    this.throwIfFailed();
    this.parts = [];
    this.bytes = 0;
    await new Promise<void>((resolve, reject) => {
      this.onFailure = reject;
      this.inflate.write(block, () => resolve());
    });
    // What is still in its buffer comes through 'data' with this.
    while (this.inflate.read() !== null);
    this.throwIfFailed();
    return parse(Buffer.concat(this.parts));
  }

  close(): void {
    this.inflate.destroy();
  }

  private throwIfFailed(): void {
    if (this.failure) throw this.failure;
  }

  private take(part: Buffer): void {
    this.bytes += part.length;
    if (this.bytes > MAX_BLOCK_BYTES) this.fail(broken(`a block of headers of more than ${MAX_BLOCK_BYTES} bytes`));
    else this.parts.push(part);
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.parts = [];
    this.inflate.destroy();
    this.onFailure?.(this.failure);
  }
}

function parse(block: Buffer): Headers {
  let at = 0;
  const number = () => {
    if (at + 4 > block.length) throw broken('a block of headers is cut short');
    const value = block.readUInt32BE(at);
    at += 4;
    return value;
  };
  const text = () => {
    const length = number();
    if (length > block.length - at) throw broken('a header is longer than its block');
    at += length;
    return block.toString('latin1', at - length, at);
  };
  const count = number();
  if (count > MAX_HEADERS) throw broken(`${count} headers, and ${MAX_HEADERS} are the most`);
  const headers = new Map<string, string>();
  for (let i = 0; i < count; i++) {
    const name = text().toLowerCase();
    headers.set(name, text());
  }
  return headers;
}

/**
 * Writes the blocks of our replies, which have no headers, without a deflater: the zlib header once, then each block
 * stored. Go's inflater hands data out only at the end of a block, so an empty one follows each.
 */
export class HeaderWriter {
  private hasBegun = false;

  none(): Buffer {
    const stored = Buffer.from([0x00, 0x04, 0x00, 0xfb, 0xff, 0, 0, 0, 0, 0x00, 0x00, 0x00, 0xff, 0xff]);
    if (this.hasBegun) return stored;
    this.hasBegun = true;
    // 32 KiB window, a preset dictionary, and which.
    const header = Buffer.from([0x78, 0xbb, 0, 0, 0, 0]);
    header.writeUInt32BE(DICTIONARY_ID, 2);
    return Buffer.concat([header, stored]);
  }
}
