import { createHash } from 'node:crypto';
import { BerthError } from '../../base/errors';
import type { SeccompArgument, SeccompSpec } from '../spec';
import { argumentHigh, argumentLow, Assembler, DATA, type Label } from './bpf';
import { syscallsOf, type SyscallArch } from './syscalls';

/** What the helper loads. */
export interface SeccompFilter {
  /** struct sock_filter[], as seccomp(2) takes it. */
  program: Buffer;
  /** SECCOMP_FILTER_FLAG_*. */
  flags: number;
}

export interface Compiled extends SeccompFilter {
  /** Names that no architecture here knows; rules for them are without effect, as with libseccomp. */
  unknownNames: readonly string[];
}

/**
 * Spec → filter. Decisions are libseccomp's as runc uses it: a rule without
 * arguments wins over those with; of several without, the first; of overlapping
 * ones with arguments the narrower; several conditions on the same argument are
 * alternatives, on different ones all must hold. System calls newer than all that
 * the profile names fail with ENOSYS unless the default is to let things through,
 * so that libraries fall back. Compiled once for each content.
 *
 * Throws `invalid_argument` that names `where`.
 */
export function compileSeccomp(spec: SeccompSpec, where: string): Compiled {
  const byIdentity = known.get(spec);
  if (byIdentity) return byIdentity;
  const key = contentHash(spec);
  let compiled = byContent.get(key);
  if (!compiled) {
    compiled = compile(spec, where);
    const [oldest] = byContent.keys();
    if (byContent.size >= CACHED && oldest !== undefined) byContent.delete(oldest);
    byContent.set(key, compiled);
  }
  known.set(spec, compiled);
  return compiled;
}

const CACHED = 64;
const known = new WeakMap<SeccompSpec, Compiled>();
const byContent = new Map<string, Compiled>();

function contentHash(spec: SeccompSpec): string {
  const text = JSON.stringify(spec, (_, value: unknown) => (typeof value === 'bigint' ? value.toString() : value));
  return createHash('sha256').update(text).digest('hex');
}

function compile(spec: SeccompSpec, where: string): Compiled {
  const fallback = actionValue(spec.defaultAction, spec.defaultErrnoRet, where);
  const arches = spec.architectures.map(name => archNamed(name, where)).filter(arch => arch !== undefined);
  const program = new Assembler();
  let next = program.ret(BAD_ARCH);
  const isNamed = ({ arch }: Machine) => arches.includes(arch) || (arch === 'x86_64' && arches.includes('x32'));
  for (const machine of MACHINES.filter(isNamed).reverse()) {
    const ranges = machineRanges(machine, arches, spec, fallback, where);
    const tree = emitTree(program, ranges, fallback, 0, ranges.length);
    next = program.branch('==', machine.audit, program.load(DATA.number, tree), next);
  }
  try {
    return {
      program: program.assemble(program.load(DATA.arch, next)),
      flags: spec.flags.reduce((flags, name) => flags | flagValue(name, where), 0),
      unknownNames: unknownNames(spec),
    };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw refuse(where, `its filter is too long: ${error.message}; name fewer arguments`);
  }
}

/* ---- actions, architectures, flags ---- */

const KILL_PROCESS = 0x80000000;
/** A system call of an architecture that the profile does not name. */
const BAD_ARCH = KILL_PROCESS;
const EPERM = 1;
const ENOSYS = 38;
const ERRNO = 0x00050000;
const TRACE = 0x7ff00000;
const LOG = 0x7ffc0000;
const ALLOW = 0x7fff0000;

/** A SECCOMP_RET_* with its data. */
function actionValue(action: string, errno: number | undefined, where: string): number {
  switch (action) {
    case 'SCMP_ACT_KILL':
    case 'SCMP_ACT_KILL_THREAD':
      return 0;
    case 'SCMP_ACT_KILL_PROCESS':
      return KILL_PROCESS;
    case 'SCMP_ACT_TRAP':
      return 0x00030000;
    case 'SCMP_ACT_ERRNO':
      return ERRNO | (errno ?? EPERM);
    case 'SCMP_ACT_TRACE':
      return TRACE | (errno ?? EPERM);
    case 'SCMP_ACT_LOG':
      return LOG;
    case 'SCMP_ACT_ALLOW':
      return ALLOW;
    case 'SCMP_ACT_NOTIFY':
      throw refuse(where, 'SCMP_ACT_NOTIFY asks for an agent that answers for system calls, which berth has not');
    default:
      throw refuse(where, `${JSON.stringify(action)} is no action`);
  }
}

/** A tracer sees new system calls, too, and decides itself. */
function letsThrough(action: number): boolean {
  return action === ALLOW || action === LOG || (action & 0x7fff0000) >>> 0 === TRACE;
}

/** An architecture as the kernel tells it to a filter; x32 comes as x86_64 with a bit set in the number. */
interface Machine {
  arch: SyscallArch;
  /** AUDIT_ARCH_* of linux/audit.h. */
  audit: number;
}

const MACHINES: readonly Machine[] = [
  { arch: 'x86_64', audit: 0xc000003e },
  { arch: 'aarch64', audit: 0xc00000b7 },
  { arch: 'x86', audit: 0x40000003 },
  { arch: 'arm', audit: 0x40000028 },
];

const ARCH_NAMES: Readonly<Record<string, SyscallArch>> = {
  SCMP_ARCH_X86_64: 'x86_64',
  SCMP_ARCH_X32: 'x32',
  SCMP_ARCH_X86: 'x86',
  SCMP_ARCH_AARCH64: 'aarch64',
  SCMP_ARCH_ARM: 'arm',
};

/** Undefined for those of machines that berth does not run on: no process here can be of them. */
function archNamed(name: string, where: string): SyscallArch | undefined {
  if (name in ARCH_NAMES) return ARCH_NAMES[name];
  if (/^SCMP_ARCH_(MIPS|PPC|S390|PARISC|RISCV|LOONGARCH|M68K|SH)[A-Z0-9]*$/.test(name)) return undefined;
  throw refuse(where, `${JSON.stringify(name)} is no architecture`);
}

function flagValue(name: string, where: string): number {
  switch (name) {
    case 'SECCOMP_FILTER_FLAG_TSYNC':
      return 0; // the process that loads the filter has one thread
    case 'SECCOMP_FILTER_FLAG_LOG':
      return 2;
    case 'SECCOMP_FILTER_FLAG_SPEC_ALLOW':
      return 4;
    case 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV':
      throw refuse(where, `${name} is about an agent that answers for system calls, which berth has not`);
    default:
      throw refuse(where, `${JSON.stringify(name)} is no flag`);
  }
}

function unknownNames(spec: SeccompSpec): string[] {
  const arches = [...new Set(Object.values(ARCH_NAMES))];
  const isKnown = (name: string) => arches.some(arch => syscallsOf(arch).has(name));
  return [...new Set(spec.syscalls.flatMap(({ names }) => names))].filter(name => !isKnown(name));
}

/* ---- rules: from names to decisions by number ---- */

/** `arg & mask` compared with `value`. */
interface Condition {
  index: number;
  op: '==' | '!=' | '<' | '<=' | '>' | '>=';
  mask: bigint;
  value: bigint;
}

/** Tried in order; the first whose conditions all hold decides. */
interface ConditionalRule {
  conditions: Condition[];
  action: number;
}

type Decision = number | { rules: ConditionalRule[]; bits: 32 | 64 };

const BITS: Readonly<Record<SyscallArch, 32 | 64>> = { x86_64: 64, aarch64: 64, x32: 32, x86: 32, arm: 32 };
const X32_BIT = 0x40000000;
/** Numbers beyond the common ones, which say nothing of how new a system call is. */
const OWN_NUMBERS: Partial<Record<SyscallArch, readonly [number, number]>> = {
  x32: [512, 547],
  arm: [0xf0000, 0xf0006],
};

interface Range {
  start: number;
  decision: Decision;
}

/** Every number of a machine: ranges from 0 on, each up to the next one's start. */
function machineRanges(
  { arch }: Machine,
  arches: readonly SyscallArch[],
  spec: SeccompSpec,
  fallback: number,
  where: string,
): Range[] {
  const own = arches.includes(arch) ? archRanges(arch, spec, fallback, where) : [{ start: 0, decision: BAD_ARCH }];
  if (arch !== 'x86_64') return own;
  const x32 = arches.includes('x32')
    ? archRanges('x32', spec, fallback, where).map(range => ({ ...range, start: range.start + X32_BIT }))
    : [
        { start: X32_BIT, decision: BAD_ARCH },
        // A tracer that skips a call puts -1 in its place.
        { start: 0xffffffff, decision: fallback },
      ];
  return [...own, ...x32];
}

function archRanges(arch: SyscallArch, spec: SeccompSpec, fallback: number, where: string): Range[] {
  const decisions = decisionsOf(arch, spec, fallback, where);
  const newest = newestNumber(arch, spec);
  const [ownFirst, ownLast] = OWN_NUMBERS[arch] ?? [Infinity, -Infinity];
  const other = (number: number) => {
    const isNew = newest !== undefined && number > newest && !(number >= ownFirst && number <= ownLast);
    return isNew && !letsThrough(fallback) ? ERRNO | ENOSYS : fallback;
  };
  const starts = [0, (newest ?? 0) + 1, ...[...decisions.keys()].flatMap(number => [number, number + 1])];
  if (ownFirst !== Infinity) starts.push(ownFirst, ownLast + 1);
  const ranges: Range[] = [];
  for (const start of [...new Set(starts)].sort((a, b) => a - b)) {
    const decision = decisions.get(start) ?? other(start);
    if (ranges.at(-1)?.decision !== decision) ranges.push({ start, decision });
  }
  return ranges;
}

/** The highest of the common numbers that the profile names at all, whatever it says of it. */
function newestNumber(arch: SyscallArch, spec: SeccompSpec): number | undefined {
  const table = syscallsOf(arch);
  const [ownFirst] = OWN_NUMBERS[arch] ?? [Infinity];
  const numbers = spec.syscalls
    .flatMap(({ names }) => names.map(name => table.get(name)))
    .filter((number): number is number => number !== undefined && number < ownFirst);
  return numbers.length === 0 ? undefined : Math.max(...numbers);
}

function decisionsOf(
  arch: SyscallArch,
  spec: SeccompSpec,
  fallback: number,
  where: string,
): ReadonlyMap<number, Decision> {
  const always = new Map<number, number>();
  const sometimes = new Map<number, ConditionalRule[]>();
  const operations = new Set<string>();
  for (const { names, action, errnoRet, args = [] } of spec.syscalls) {
    const value = actionValue(action, errnoRet, where);
    // Says what holds anyway; libseccomp refuses such a rule, and runc leaves it out.
    if (value === fallback) continue;
    const alternatives = alternativesOf(args, BITS[arch], where);
    for (const name of names) {
      const number = syscallsOf(arch).get(name);
      for (const conditions of number === undefined ? [] : alternatives) {
        if (conditions.length > 0) pushTo(sometimes, number as number, { conditions, action: value });
        else if (!always.has(number as number)) always.set(number as number, value);
      }
      if (args.length > 0) continue;
      const operation = multiplexed(arch, name);
      if (!operation || operations.has(name)) continue;
      operations.add(name);
      pushTo(sometimes, operation.number, { conditions: [operation.condition], action: value });
    }
  }
  const decisions = new Map<number, Decision>(always);
  for (const [number, rules] of sometimes) {
    if (!always.has(number)) decisions.set(number, { rules: inOrder(rules, where), bits: BITS[arch] });
  }
  return decisions;
}

function pushTo<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}

const SOCKETCALLS =
  'socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg'.split(
    ' ',
  );
const IPC_CALLS: Readonly<Record<string, number>> = {
  semop: 1,
  semget: 2,
  semctl: 3,
  semtimedop: 4,
  msgsnd: 11,
  msgrcv: 12,
  msgget: 13,
  msgctl: 14,
  shmat: 21,
  shmdt: 22,
  shmget: 23,
  shmctl: 24,
};

/**
 * On i386 some calls are operations of socketcall(2) or ipc(2), too. Their own
 * arguments are behind a pointer there: a rule that looks at arguments cannot be
 * held there, so it does not reach there.
 */
function multiplexed(arch: SyscallArch, name: string): { number: number; condition: Condition } | undefined {
  if (arch !== 'x86') return undefined;
  const socket = SOCKETCALLS.indexOf(name) + 1;
  const operation = socket > 0 ? socket : IPC_CALLS[name];
  const number = syscallsOf(arch).get(socket > 0 ? 'socketcall' : 'ipc');
  if (operation === undefined || number === undefined) return undefined;
  return { number, condition: { index: 0, op: '==', mask: ALL_BITS, value: BigInt(operation) } };
}

const ALL_BITS = 2n ** 64n - 1n;

/**
 * Conditions on different arguments hold together; several on the same one are
 * rules of their own, as runc has it. One that compares nothing always holds.
 */
function alternativesOf(args: readonly SeccompArgument[], bits: 32 | 64, where: string): Condition[][] {
  const conditions = args.map(arg => conditionOf(arg, where));
  const isRepeated = new Set(args.map(({ index }) => index)).size < args.length;
  const alternatives = isRepeated ? conditions.map(condition => [condition]) : [conditions];
  return alternatives.map(all => all.filter(({ mask }) => BigInt.asUintN(bits, mask) !== 0n));
}

function conditionOf({ index, value, valueTwo = 0n, op }: SeccompArgument, where: string): Condition {
  switch (op) {
    case 'SCMP_CMP_EQ':
      return { index, op: '==', mask: ALL_BITS, value };
    case 'SCMP_CMP_NE':
      return { index, op: '!=', mask: ALL_BITS, value };
    case 'SCMP_CMP_LT':
      return { index, op: '<', mask: ALL_BITS, value };
    case 'SCMP_CMP_LE':
      return { index, op: '<=', mask: ALL_BITS, value };
    case 'SCMP_CMP_GT':
      return { index, op: '>', mask: ALL_BITS, value };
    case 'SCMP_CMP_GE':
      return { index, op: '>=', mask: ALL_BITS, value };
    case 'SCMP_CMP_MASKED_EQ':
      return { index, op: '==', mask: value, value: valueTwo & value };
    default:
      throw refuse(where, `${JSON.stringify(op)} is no comparison`);
  }
}

/** Narrower before wider: the order in which libseccomp tries them, whatever order they were added in. */
function inOrder(rules: readonly ConditionalRule[], where: string): ConditionalRule[] {
  const sorted = rules
    .map(({ conditions, action }) => ({ conditions: conditions.toSorted((a, b) => a.index - b.index), action }))
    .sort(byNarrowness);
  return sorted.filter((rule, i) => {
    const previous = sorted[i - 1];
    if (!previous || byNarrowness(previous, rule) !== 0 || !sameConditions(previous, rule)) return true;
    if (previous.action === rule.action) return false;
    throw refuse(where, 'two rules for the same system call and the same arguments have different actions');
  });
}

const WIDTH = { '==': 0, '!=': 0, '<': 1, '<=': 1, '>': 2, '>=': 2 } as const;

function byNarrowness(a: ConditionalRule, b: ConditionalRule): number {
  for (let i = 0; i < Math.min(a.conditions.length, b.conditions.length); i++) {
    const [x, y] = [a.conditions[i], b.conditions[i]] as [Condition, Condition];
    if (x.index !== y.index) return y.index - x.index;
    if (WIDTH[x.op] !== WIDTH[y.op]) return WIDTH[x.op] - WIDTH[y.op];
    if (x.value !== y.value) return x.value < y.value === (WIDTH[x.op] === 1) ? -1 : 1;
    if (x.mask !== y.mask) return x.mask > y.mask ? -1 : 1;
    if (x.op !== y.op) return x.op < y.op ? -1 : 1;
  }
  return b.conditions.length - a.conditions.length;
}

function sameConditions(a: ConditionalRule, b: ConditionalRule): boolean {
  return a.conditions.length === b.conditions.length && byNarrowness(a, b) === 0;
}

/* ---- code ---- */

/** Finds the range of the number that was loaded, in as few steps as there can be. */
function emitTree(program: Assembler, ranges: readonly Range[], fallback: number, from: number, to: number): Label {
  const middle = (from + to) >> 1;
  const range = ranges[middle] as Range;
  if (to - from === 1) return emitDecision(program, range.decision, fallback);
  const upper = emitTree(program, ranges, fallback, middle, to);
  const lower = emitTree(program, ranges, fallback, from, middle);
  return program.branch('>=', range.start, upper, lower);
}

function emitDecision(program: Assembler, decision: Decision, fallback: number): Label {
  if (typeof decision === 'number') return program.ret(decision);
  let otherwise = program.ret(fallback);
  for (const { conditions, action } of decision.rules.toReversed()) {
    let holds = program.ret(action);
    for (const condition of conditions.toReversed()) {
      holds = emitCondition(program, condition, decision.bits, holds, otherwise);
    }
    otherwise = holds;
  }
  return otherwise;
}

/** Arguments are 64 bits wide and compared by halves; on 32-bit architectures the lower one is all. */
function emitCondition(program: Assembler, condition: Condition, bits: 32 | 64, yes: Label, no: Label): Label {
  switch (condition.op) {
    case '!=':
      return emitEqual(program, condition, bits, no, yes);
    case '==':
      return emitEqual(program, condition, bits, yes, no);
    case '>':
      return emitGreater(program, condition, bits, '>', yes, no);
    case '>=':
      return emitGreater(program, condition, bits, '>=', yes, no);
    case '<':
      return emitGreater(program, condition, bits, '>=', no, yes);
    case '<=':
      return emitGreater(program, condition, bits, '>', no, yes);
  }
}

function emitEqual(program: Assembler, condition: Condition, bits: 32 | 64, yes: Label, no: Label): Label {
  const { index, mask, value } = condition;
  const low = emitHalf(program, argumentLow(index), low32(mask), low32(value), yes, no);
  return bits === 32 ? low : emitHalf(program, argumentHigh(index), high32(mask), high32(value), low, no);
}

function emitHalf(program: Assembler, offset: number, mask: number, value: number, yes: Label, no: Label): Label {
  if (mask === 0) return yes;
  const compare = program.branch('==', value, yes, no);
  return program.load(offset, mask === 0xffffffff ? compare : program.and(mask, compare));
}

function emitGreater(
  program: Assembler,
  { index, value }: Condition,
  bits: 32 | 64,
  op: '>' | '>=',
  yes: Label,
  no: Label,
): Label {
  const low = program.load(argumentLow(index), program.branch(op, low32(value), yes, no));
  if (bits === 32) return low;
  const equal = program.branch('==', high32(value), low, no);
  return program.load(argumentHigh(index), program.branch('>', high32(value), yes, equal));
}

function low32(value: bigint): number {
  return Number(value & 0xffffffffn);
}

function high32(value: bigint): number {
  return Number(value >> 32n);
}

function refuse(where: string, what: string): BerthError {
  return new BerthError('invalid_argument', `seccomp profile ${where}: ${what}`);
}
