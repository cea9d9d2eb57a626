import { BerthError } from '../base/errors';
import type { FieldType, FieldValues, Shape } from './plan-ops';

/** Grows as it is written to; numbers are little endian, runs are length, bytes, NUL, padding to four. */
export class FieldWriter {
  private buffer = Buffer.allocUnsafe(4096);
  private used = 0;

  get length(): number {
    return this.used;
  }

  u32(value: number): void {
    this.room(4);
    this.used = this.buffer.writeUInt32LE(value >>> 0, this.used);
  }

  u64(value: bigint): void {
    this.room(8);
    this.used = this.buffer.writeBigUInt64LE(BigInt.asUintN(64, value), this.used);
  }

  bytes(value: Buffer): void {
    const padded = (value.length + 4) & ~3;
    this.u32(value.length);
    this.room(padded);
    value.copy(this.buffer, this.used);
    this.buffer.fill(0, this.used + value.length, this.used + padded);
    this.used += padded;
  }

  str(value: string | Buffer): void {
    const bytes = typeof value === 'string' ? Buffer.from(value) : value;
    if (bytes.includes(0)) {
      throw new BerthError('invalid_argument', `a NUL byte stands in ${JSON.stringify(bytes.toString('latin1'))}`);
    }
    this.bytes(bytes);
  }

  /** Overwrites a number written earlier. */
  patchU32(offset: number, value: number): void {
    this.buffer.writeUInt32LE(value >>> 0, offset);
  }

  /** All fields of a shape, in its order, from an object that has them by name. */
  fields(shape: Shape, values: Readonly<Record<string, unknown>>): void {
    for (const [name, type] of Object.entries(shape.fields)) this.field(type, values[name]);
  }

  done(): Buffer {
    return this.buffer.subarray(0, this.used);
  }

  private field(type: FieldType, value: unknown): void {
    switch (type) {
      case 'u32':
        return this.u32(value as FieldValues['u32']);
      case 'u64':
        return this.u64(value as FieldValues['u64']);
      case 'bytes':
        return this.bytes(value as FieldValues['bytes']);
      case 'str':
        return this.str(value as FieldValues['str']);
      case 'strs': {
        const list = value as FieldValues['strs'];
        this.u32(list.length);
        for (const item of list) this.str(item);
      }
    }
  }

  private room(bytes: number): void {
    if (this.used + bytes <= this.buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.used + bytes));
    this.buffer.copy(larger, 0, 0, this.used);
    this.buffer = larger;
  }
}

/** Reads the fields of a shape from a payload; throws `internal` when they do not fit. */
export function readFields(shape: Shape, payload: Buffer): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  let at = 0;
  const need = (bytes: number) => {
    if (at + bytes > payload.length) throw new BerthError('internal', 'a message of the helper is cut short');
  };
  const u32 = () => {
    need(4);
    at += 4;
    return payload.readUInt32LE(at - 4);
  };
  const run = () => {
    const length = u32();
    need(length);
    const bytes = Buffer.from(payload.subarray(at, at + length));
    at += (length + 4) & ~3;
    return bytes;
  };
  for (const [name, type] of Object.entries(shape.fields)) {
    if (type === 'u32') {
      values[name] = u32();
    } else if (type === 'u64') {
      need(8);
      values[name] = payload.readBigUInt64LE(at);
      at += 8;
    } else if (type === 'strs') {
      values[name] = Array.from({ length: u32() }, () => run().toString('utf8'));
    } else {
      values[name] = type === 'bytes' ? run() : run().toString('utf8');
    }
  }
  return values;
}
