import { alignmentOf, singleType, typesOf, type Type, type Value, type Variant } from './values';

/** Values as they go over the wire, little endian. A value that is not of its type throws a `TypeError`. */
export class Writer {
  private buffer = Buffer.alloc(256);
  private at = 0;

  get length(): number {
    return this.at;
  }

  /** What was written; the next write may overwrite it. */
  bytes(): Buffer {
    return this.buffer.subarray(0, this.at);
  }

  /** Values in a row, each of its type in the signature. */
  values(signature: string, values: readonly Value[]): void {
    const types = typesOf(signature);
    if (types.length !== values.length) {
      throw new TypeError(`${values.length} values for the D-Bus signature ${JSON.stringify(signature)}`);
    }
    types.forEach((type, i) => this.value(type, values[i]));
  }

  align(to: number): void {
    const padding = -this.at & (to - 1);
    this.room(padding);
    this.buffer.fill(0, this.at, this.at + padding);
    this.at += padding;
  }

  patchU32(value: number, at: number): void {
    this.buffer.writeUInt32LE(value, at);
  }

  private value(type: Type, value: Value | undefined): void {
    this.align(alignmentOf(type));
    switch (type.code) {
      case 's':
      case 'o':
        return this.text(string(value, type), 4);
      case 'g':
        return this.text(string(value, type), 1);
      case 'a':
        return this.array(type.inner[0], value);
      case '(':
      case '{':
        return this.struct(type, value);
      case 'v':
        return this.variant(value);
      default:
        return this.number(type, value);
    }
  }

  private number(type: Type, value: Value | undefined): void {
    this.room(8);
    const { buffer, at } = this;
    if (type.code === 'b') {
      if (typeof value !== 'boolean') throw mismatch(type, value);
      this.at = buffer.writeUInt32LE(value ? 1 : 0, at);
    } else if (type.code === 'x' || type.code === 't') {
      if (typeof value !== 'bigint') throw mismatch(type, value);
      this.at = type.code === 'x' ? buffer.writeBigInt64LE(value, at) : buffer.writeBigUInt64LE(value, at);
    } else {
      if (typeof value !== 'number' || (type.code !== 'd' && !Number.isInteger(value))) throw mismatch(type, value);
      this.at = writeNumber(buffer, type.code, value, at);
    }
  }

  /** A NUL would end it early for the other side. */
  private text(value: string, lengthBytes: 1 | 4): void {
    const length = Buffer.byteLength(value);
    if (value.includes('\0') || (lengthBytes === 1 && length > 255)) {
      throw new TypeError(`${JSON.stringify(value.slice(0, 100))} is no text of D-Bus`);
    }
    this.room(lengthBytes + length + 1);
    this.at = this.buffer.writeUIntLE(length, this.at, lengthBytes);
    this.at += this.buffer.write(value, this.at);
    this.at = this.buffer.writeUInt8(0, this.at);
  }

  private array(element: Type | undefined, value: Value | undefined): void {
    if (element === undefined) throw new TypeError('an array of nothing');
    this.room(4);
    const lengthAt = this.at;
    this.at += 4;
    this.align(alignmentOf(element));
    const from = this.at;
    if (element.code === 'y') {
      if (!(value instanceof Uint8Array)) throw mismatch(element, value);
      this.room(value.length);
      this.buffer.set(value, this.at);
      this.at += value.length;
    } else {
      for (const item of list(value, element)) this.value(element, item);
    }
    this.patchU32(this.at - from, lengthAt);
  }

  private struct(type: Type, value: Value | undefined): void {
    const fields = list(value, type);
    if (fields.length !== type.inner.length) throw mismatch(type, value);
    type.inner.forEach((field, i) => this.value(field, fields[i]));
  }

  private variant(value: Value | undefined): void {
    if (!isVariant(value)) throw new TypeError('a D-Bus variant is expected');
    this.text(value.signature, 1);
    this.value(singleType(value.signature), value.value);
  }

  private room(bytes: number): void {
    if (this.at + bytes <= this.buffer.length) return;
    const larger = Buffer.alloc(Math.max(this.buffer.length * 2, this.at + bytes));
    this.buffer.copy(larger, 0, 0, this.at);
    this.buffer = larger;
  }
}

function isVariant(value: Value | undefined): value is Variant {
  return typeof value === 'object' && 'signature' in value;
}

/** Node refuses a number that its type cannot hold. */
function writeNumber(buffer: Buffer, code: string, value: number, at: number): number {
  switch (code) {
    case 'y':
      return buffer.writeUInt8(value, at);
    case 'n':
      return buffer.writeInt16LE(value, at);
    case 'q':
      return buffer.writeUInt16LE(value, at);
    case 'i':
      return buffer.writeInt32LE(value, at);
    case 'u':
      return buffer.writeUInt32LE(value, at);
    default:
      return buffer.writeDoubleLE(value, at);
  }
}

function string(value: Value | undefined, type: Type): string {
  if (typeof value !== 'string') throw mismatch(type, value);
  return value;
}

function list(value: Value | undefined, type: Type): readonly Value[] {
  if (!Array.isArray(value)) throw mismatch(type, value);
  return value as readonly Value[];
}

function mismatch(type: Type, value: Value | undefined): TypeError {
  return new TypeError(`a ${typeof value} is no D-Bus value of type ${type.code}`);
}
