import assert from 'node:assert/strict';

/** What the kernel hands a seccomp filter. */
export interface SeccompData {
  number: number;
  /** AUDIT_ARCH_*. */
  arch: number;
  args: readonly bigint[];
}

/** struct seccomp_data, little endian. */
function dataBytes({ number, arch, args }: SeccompData): Buffer {
  const bytes = Buffer.alloc(64);
  bytes.writeUInt32LE(number, 0);
  bytes.writeUInt32LE(arch, 4);
  args.forEach((arg, i) => bytes.writeBigUInt64LE(arg, 16 + 8 * i));
  return bytes;
}

/**
 * Runs a filter as the kernel would, and asserts what the kernel's checker asks
 * of it: known instructions, jumps that end inside, loads of whole words. Returns
 * the SECCOMP_RET_* and how many instructions that took.
 */
export function runFilter(program: Buffer, data: SeccompData): { action: number; steps: number } {
  const bytes = dataBytes(data);
  const length = program.length / 8;
  assert.ok(Number.isInteger(length) && length >= 1 && length <= 4096, `${program.length} bytes of program`);
  let loaded = 0;
  let at = 0;
  for (let steps = 1; ; steps++) {
    assert.ok(at < length, `jumped out of the program, to ${at}`);
    const code = program.readUInt16LE(at * 8);
    const ifTrue = program.readUInt8(at * 8 + 2);
    const ifFalse = program.readUInt8(at * 8 + 3);
    const k = program.readUInt32LE(at * 8 + 4);
    at++;
    switch (code) {
      case 0x20:
        assert.ok(k % 4 === 0 && k < 64, `load at ${k}`);
        loaded = bytes.readUInt32LE(k);
        break;
      case 0x54:
        loaded = (loaded & k) >>> 0;
        break;
      case 0x05:
        at += k;
        break;
      case 0x15:
        at += loaded === k ? ifTrue : ifFalse;
        break;
      case 0x25:
        at += loaded > k ? ifTrue : ifFalse;
        break;
      case 0x35:
        at += loaded >= k ? ifTrue : ifFalse;
        break;
      case 0x45:
        at += (loaded & k) !== 0 ? ifTrue : ifFalse;
        break;
      case 0x06:
        return { action: k, steps };
      default:
        assert.fail(`instruction ${code.toString(16)} at ${at - 1}`);
    }
  }
}
