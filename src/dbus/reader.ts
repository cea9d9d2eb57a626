import { alignmentOf, singleType, typesOf, type Type, type Value } from './values';

const MAX_ARRAY = 64 * 1024 * 1024;
/** Variants can be in one another, where no signature limits them. */
const MAX_DEPTH = 64;

/** Reads values of what the other side sent. Throws a `RangeError` for bytes that are none of the types asked for. */
export class Reader {
  private at = 0;
  private depth = 0;

  /** @param buffer from the message's beginning, which all is aligned to */
  constructor(
    private readonly buffer: Buffer,
    private readonly isLittleEndian: boolean,
    private readonly end: number = buffer.length,
  ) {}

  get position(): number {
    return this.at;
  }

  seek(to: number): void {
    this.at = to;
  }

  values(signature: string): Value[] {
    return typesOf(signature).map(type => this.value(type));
  }

  private value(type: Type): Value {
    this.align(alignmentOf(type));
    switch (type.code) {
      case 's':
      case 'o':
        return this.text(this.u32());
      case 'g':
        return this.text(this.take(1).readUInt8());
      case 'a':
        return this.nested(() => this.array(type.inner[0]));
      case '(':
      case '{':
        return this.nested(() => type.inner.map(field => this.value(field)));
      case 'v':
        return this.nested(() => this.variant());
      default:
        return this.number(type.code);
    }
  }

  private number(code: string): Value {
    const little = this.isLittleEndian;
    switch (code) {
      case 'y':
        return this.take(1).readUInt8();
      case 'b':
        return this.boolean();
      case 'n':
        return little ? this.take(2).readInt16LE() : this.take(2).readInt16BE();
      case 'q':
        return little ? this.take(2).readUInt16LE() : this.take(2).readUInt16BE();
      case 'i':
        return little ? this.take(4).readInt32LE() : this.take(4).readInt32BE();
      case 'u':
        return this.u32();
      case 'x':
        return little ? this.take(8).readBigInt64LE() : this.take(8).readBigInt64BE();
      case 't':
        return little ? this.take(8).readBigUInt64LE() : this.take(8).readBigUInt64BE();
      default:
        return little ? this.take(8).readDoubleLE() : this.take(8).readDoubleBE();
    }
  }

  private boolean(): boolean {
    const value = this.u32();
    if (value > 1) throw new RangeError(`${value} is no boolean of D-Bus`);
    return value === 1;
  }

  private u32(): number {
    const bytes = this.take(4);
    return this.isLittleEndian ? bytes.readUInt32LE() : bytes.readUInt32BE();
  }

  private text(length: number): string {
    const bytes = this.take(length + 1);
    if (bytes.indexOf(0) !== length) throw new RangeError('a text of D-Bus has no end, or a NUL within');
    return bytes.toString('utf8', 0, length);
  }

  private array(element: Type | undefined): Value {
    const length = this.u32();
    if (element === undefined || length > MAX_ARRAY) throw new RangeError(`a D-Bus array of ${length} bytes`);
    this.align(alignmentOf(element));
    if (element.code === 'y') return Buffer.from(this.take(length));
    const end = this.at + length;
    if (end > this.end) throw new RangeError('a D-Bus array is longer than its message');
    const items: Value[] = [];
    while (this.at < end) items.push(this.value(element));
    if (this.at !== end) throw new RangeError('a D-Bus array ends within an element');
    return items;
  }

  private variant(): Value {
    const signature = this.text(this.take(1).readUInt8());
    return { signature, value: this.value(singleType(signature)) };
  }

  private nested(read: () => Value): Value {
    if (++this.depth > MAX_DEPTH) throw new RangeError('D-Bus values are nested too deeply');
    const value = read();
    this.depth--;
    return value;
  }

  private align(to: number): void {
    this.at += -this.at & (to - 1);
  }

  private take(bytes: number): Buffer {
    const from = this.at;
    if (from + bytes > this.end) throw new RangeError('a D-Bus message is shorter than its values');
    this.at = from + bytes;
    return this.buffer.subarray(from, this.at);
  }
}
