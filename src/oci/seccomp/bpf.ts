/**
 * An assembler for classic BPF as seccomp(2) takes it. A program is written from
 * its end to its beginning: jumps only go forward, so every target is known when
 * a jump to it is written. A label is the number of instructions from its own
 * place to the end of the program.
 */
export type Label = number & { readonly __brand: 'Label' };

/** struct sock_filter, little endian: u16 code, u8 true, u8 false, u32 k. */
const INSTRUCTION_BYTES = 8;
/** linux/bpf_common.h: BPF_MAXINSNS. */
export const MAX_INSTRUCTIONS = 4096;

/** Offsets in struct seccomp_data. */
export const DATA = { number: 0, arch: 4 } as const;
export const argumentLow = (index: number) => 16 + 8 * index;
export const argumentHigh = (index: number) => 20 + 8 * index;

const LOAD = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND = 0x54; // BPF_ALU | BPF_AND | BPF_K
const RETURN = 0x06; // BPF_RET | BPF_K
const JUMP = 0x05; // BPF_JMP | BPF_JA
const CONDITIONS = { '==': 0x15, '>': 0x25, '>=': 0x35 } as const;

/** How far a conditional jump reaches. */
const REACH = 255;

interface Instruction {
  code: number;
  ifTrue: number;
  ifFalse: number;
  k: number;
}

export class Assembler {
  /** The last instruction first. */
  private readonly code: Instruction[] = [];
  /** Where a value is returned, the place nearest to the beginning. */
  private readonly returns = new Map<number, Label>();

  /** A place that returns `value`; one that is near is used again. */
  ret(value: number): Label {
    const known = this.returns.get(value);
    if (known !== undefined && this.code.length - known < REACH - 1) return known;
    const label = this.emit({ code: RETURN, ifTrue: 0, ifFalse: 0, k: value });
    this.returns.set(value, label);
    return label;
  }

  /** Loads the 32 bits at an offset of seccomp_data, then goes on at `next`. */
  load(offset: number, next: Label): Label {
    this.fallInto(next);
    return this.emit({ code: LOAD, ifTrue: 0, ifFalse: 0, k: offset });
  }

  and(mask: number, next: Label): Label {
    this.fallInto(next);
    return this.emit({ code: AND, ifTrue: 0, ifFalse: 0, k: mask });
  }

  /** Compares what was loaded, unsigned. */
  branch(condition: keyof typeof CONDITIONS, k: number, ifTrue: Label, ifFalse: Label): Label {
    if (ifTrue === ifFalse) return ifTrue;
    const yes = this.reached(ifTrue);
    const no = this.reached(ifFalse);
    return this.emit({ code: CONDITIONS[condition], ifTrue: this.distance(yes), ifFalse: this.distance(no), k });
  }

  /** The program from `start` on, which is the label made last. Throws RangeError when it is longer than the kernel takes. */
  assemble(start: Label): Buffer {
    this.fallInto(start);
    if (this.code.length > MAX_INSTRUCTIONS) {
      throw new RangeError(`${this.code.length} instructions, and the kernel takes ${MAX_INSTRUCTIONS}`);
    }
    const bytes = Buffer.alloc(this.code.length * INSTRUCTION_BYTES);
    this.code.toReversed().forEach(({ code, ifTrue, ifFalse, k }, i) => {
      bytes.writeUInt16LE(code, i * INSTRUCTION_BYTES);
      bytes.writeUInt8(ifTrue, i * INSTRUCTION_BYTES + 2);
      bytes.writeUInt8(ifFalse, i * INSTRUCTION_BYTES + 3);
      bytes.writeUInt32LE(k >>> 0, i * INSTRUCTION_BYTES + 4);
    });
    return bytes;
  }

  private emit(instruction: Instruction): Label {
    this.code.push(instruction);
    return this.code.length as Label;
  }

  /** Instructions between the next one to be written and the label. */
  private distance(label: Label): number {
    return this.code.length - label;
  }

  private fallInto(next: Label): void {
    if (this.distance(next) > 0) this.emit({ code: JUMP, ifTrue: 0, ifFalse: 0, k: this.distance(next) });
  }

  /** The label, or a long jump to it right behind the next instruction; room is kept for another such jump. */
  private reached(label: Label): Label {
    if (this.distance(label) < REACH) return label;
    return this.emit({ code: JUMP, ifTrue: 0, ifFalse: 0, k: this.distance(label) });
  }
}
