import type { DeviceRule } from './devices';

/**
 * Rules about devices as an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE,
 * which is cgroup v2's device controller. The kernel runs it at each open and
 * mknod of a device and refuses when it returns 0.
 *
 *     struct bpf_cgroup_dev_ctx { __u32 access_type; __u32 major; __u32 minor; }
 *     access_type: what is asked for << 16 | kind of device         (linux/bpf.h)
 *
 * The last rule that fits decides, so the program asks from the last to the first.
 */
export function deviceProgram(rules: readonly DeviceRule[]): Buffer {
  const program: Instruction[] = [
    loadWord(REGISTER.kind, REGISTER.context, 0),
    and(REGISTER.kind, 0xffff),
    loadWord(REGISTER.access, REGISTER.context, 0),
    shiftRight(REGISTER.access, 16),
    loadWord(REGISTER.major, REGISTER.context, 4),
    loadWord(REGISTER.minor, REGISTER.context, 8),
  ];
  for (const rule of [...rules].reverse()) {
    const tests = testsOf(rule);
    program.push(...withTargets(tests), ...answer(rule.allow));
    // The kernel refuses a program with code that nothing leads to.
    if (tests.length === 0) return encode(program);
  }
  return encode([...program, ...answer(false)]);
}

interface Instruction {
  code: number;
  dst: number;
  src: number;
  /** For a jump: how many of the instructions that follow are passed over. */
  offset: number;
  immediate: number;
}

/** A jump of a rule's tests, whose target is the next rule. */
type Test = Instruction & { toNextRule?: true };

/** r0 is what the program returns, r1 comes as the context. The context is read first: r6 and up are kept by nobody here. */
const REGISTER = { result: 0, context: 1, kind: 2, access: 3, major: 4, minor: 5, scratch: 6 } as const;

/** BPF_DEVCG_DEV_* and BPF_DEVCG_ACC_* of linux/bpf.h. */
const KIND = { b: 1, c: 2 } as const;
const ACCESS = { m: 1, r: 2, w: 4 } as const;
const ALL_ACCESS = 7;

function testsOf({ allow, type, major, minor, access }: DeviceRule): Test[] {
  const mask = accessMask(access);
  return [
    ...(type === 'a' ? [] : [nextUnless(REGISTER.kind, KIND[type])]),
    // Allowed is what asks for nothing else; denied is what asks for any of it.
    ...(mask === ALL_ACCESS ? [] : allow ? nextIfAny(ALL_ACCESS & ~mask) : nextIfNone(mask)),
    ...(major === undefined ? [] : [nextUnless(REGISTER.major, major)]),
    ...(minor === undefined ? [] : [nextUnless(REGISTER.minor, minor)]),
  ];
}

function accessMask(access: string): number {
  return [...access].reduce((mask, letter) => mask | ACCESS[letter as keyof typeof ACCESS], 0);
}

function nextIfAny(mask: number): Test[] {
  return [copy(REGISTER.scratch, REGISTER.access), and(REGISTER.scratch, mask), nextUnless(REGISTER.scratch, 0)];
}

function nextIfNone(mask: number): Test[] {
  const jump = { ...EMPTY, code: CODE.jumpIfEqual, dst: REGISTER.scratch, immediate: 0, toNextRule: true } as const;
  return [copy(REGISTER.scratch, REGISTER.access), and(REGISTER.scratch, mask), jump];
}

/** Each test's jump leads past the rule's answer, which is two instructions long. */
function withTargets(tests: readonly Test[]): Instruction[] {
  return tests.map((test, i) => (test.toNextRule ? { ...test, offset: tests.length - i - 1 + 2 } : test));
}

function answer(isAllowed: boolean): Instruction[] {
  return [
    { ...EMPTY, code: CODE.move, dst: REGISTER.result, immediate: isAllowed ? 1 : 0 },
    { ...EMPTY, code: CODE.exit },
  ];
}

/** Operation codes: class | size or source | operation; Documentation/bpf/standardization/instruction-set.rst. */
const CODE = {
  /** BPF_LDX | BPF_MEM | BPF_W */
  loadWord: 0x61,
  /** BPF_ALU | BPF_K | … ; 32 bits wide */
  and: 0x54,
  shiftRight: 0x74,
  move: 0xb4,
  /** BPF_ALU | BPF_X | BPF_MOV */
  copy: 0xbc,
  /** BPF_JMP | BPF_K | … */
  jumpIfEqual: 0x15,
  jumpUnlessEqual: 0x55,
  exit: 0x95,
} as const;

const EMPTY: Instruction = { code: 0, dst: 0, src: 0, offset: 0, immediate: 0 };

function loadWord(dst: number, src: number, offset: number): Instruction {
  return { ...EMPTY, code: CODE.loadWord, dst, src, offset };
}

function and(dst: number, immediate: number): Instruction {
  return { ...EMPTY, code: CODE.and, dst, immediate };
}

function shiftRight(dst: number, immediate: number): Instruction {
  return { ...EMPTY, code: CODE.shiftRight, dst, immediate };
}

function copy(dst: number, src: number): Instruction {
  return { ...EMPTY, code: CODE.copy, dst, src };
}

function nextUnless(dst: number, immediate: number): Test {
  return { ...EMPTY, code: CODE.jumpUnlessEqual, dst, immediate, toNextRule: true };
}

/** struct bpf_insn: u8 code, u4 dst, u4 src, s16 offset, s32 immediate; little endian, as all of berth's machines are. */
function encode(program: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(({ code, dst, src, offset, immediate }, i) => {
    bytes.writeUInt8(code, i * 8);
    bytes.writeUInt8((src << 4) | dst, i * 8 + 1);
    bytes.writeInt16LE(offset, i * 8 + 2);
    bytes.writeInt32LE(immediate, i * 8 + 4);
  });
  return bytes;
}
