import assert from 'node:assert/strict';
import { syscallsOf, type SyscallArch } from '../../../src/oci/seccomp/syscalls';
import type { SeccompArgument, SeccompSpec } from '../../../src/oci/spec';
import type { SeccompData } from '../bpf';

/** linux/audit.h. */
export const AUDIT = { x86_64: 0xc000003e, x86: 0x40000003, aarch64: 0xc00000b7, arm: 0x40000028 } as const;

const ACTIONS: Readonly<Record<string, number>> = {
  KILL: 0,
  KILL_THREAD: 0,
  KILL_PROCESS: 0x80000000,
  TRAP: 0x30000,
  ERRNO: 0x50000,
  TRACE: 0x7ff00000,
  LOG: 0x7ffc0000,
  ALLOW: 0x7fff0000,
};

export function actionNumber(name: string, errno = 1): number {
  const number = ACTIONS[name.replace('SCMP_ACT_', '')];
  assert.ok(number !== undefined, name);
  return /ERRNO|TRACE/.test(name) ? number + errno : number;
}

export const BAD_ARCH = 'bad architecture';
export const NEWER = 'newer than the profile';

/**
 * What a profile says of one call, read rule by rule. Where several rules with
 * arguments match, they have to have the same action: their order is not looked at.
 */
export function evaluate(spec: SeccompSpec, { number, arch, args }: SeccompData): number | string {
  const hasX32 = spec.architectures.includes('SCMP_ARCH_X32');
  const isX32 = arch === AUDIT.x86_64 && number >= 0x40000000;
  const isSkipped = number === 0xffffffff && !hasX32 && spec.architectures.includes('SCMP_ARCH_X86_64');
  if (isX32 && isSkipped) return actionNumber(spec.defaultAction, spec.defaultErrnoRet);
  const name = isX32 ? 'x32' : Object.entries(AUDIT).find(([, audit]) => audit === arch)?.[0];
  if (name === undefined || !spec.architectures.includes(`SCMP_ARCH_${name.toUpperCase()}`)) return BAD_ARCH;
  const table = syscallsOf(name as SyscallArch);
  const own = isX32 ? number - 0x40000000 : number;
  const bits = name === 'x86_64' || name === 'aarch64' ? 64n : 32n;

  const fallback = actionNumber(spec.defaultAction, spec.defaultErrnoRet);
  const rules = spec.syscalls.filter(rule => actionNumber(rule.action, rule.errnoRet) !== fallback);
  const isNamed = (names: readonly string[]) => names.some(call => table.get(call) === own);
  const always = rules.find(rule => isNamed(rule.names) && comparesNothing(rule.args, bits));
  if (always) return actionNumber(always.action, always.errnoRet);
  const matching = rules.find(rule => {
    if (rule.args) return isNamed(rule.names) && holds(rule.args, args, bits);
    return name === 'x86' && rule.names.some(call => isMultiplexed(call, own, Number(args[0]), table));
  });
  if (matching) return actionNumber(matching.action, matching.errnoRet);

  const common = (call: number | undefined): call is number =>
    call !== undefined && !(name === 'x32' && call >= 512) && !(name === 'arm' && call >= 0xf0000);
  const named = spec.syscalls.flatMap(rule => rule.names.map(call => table.get(call))).filter(common);
  const isOwn = (name === 'x32' && own >= 512 && own <= 547) || (name === 'arm' && own >= 0xf0000 && own <= 0xf0006);
  const isPermissive = /ALLOW|LOG|TRACE/.test(spec.defaultAction);
  // One whose operations a rule names is known to the profile, whatever its number.
  const isReached =
    name === 'x86' && rules.some(rule => !rule.args && rule.names.some(call => isOperation(call, own, table)));
  if (named.length > 0 && own > Math.max(...named) && !isOwn && !isReached && !isPermissive) return NEWER;
  return fallback;
}

const SOCKETCALL = ['', 'socket', 'bind', 'connect'];
const IPC: Readonly<Record<number, string>> = { 1: 'semop', 23: 'shmget' };

function isMultiplexed(call: string, own: number, operation: number, table: ReadonlyMap<string, number>): boolean {
  return (
    (own === table.get('socketcall') && SOCKETCALL[operation & 0xffffffff] === call) ||
    (own === table.get('ipc') && IPC[operation & 0xffffffff] === call)
  );
}

function isOperation(call: string, own: number, table: ReadonlyMap<string, number>): boolean {
  return (
    (own === table.get('socketcall') && SOCKETCALL.includes(call)) ||
    (own === table.get('ipc') && Object.values(IPC).includes(call))
  );
}

/** No arguments, or a mask of which nothing is left. */
function comparesNothing(conditions: readonly SeccompArgument[] = [], bits: bigint): boolean {
  const isRepeated = new Set(conditions.map(({ index }) => index)).size < conditions.length;
  const each = conditions.map(
    ({ op, value }) => op === 'SCMP_CMP_MASKED_EQ' && BigInt.asUintN(Number(bits), value) === 0n,
  );
  return isRepeated ? each.includes(true) : !each.includes(false);
}

function holds(conditions: readonly SeccompArgument[], args: readonly bigint[], bits: bigint): boolean {
  const isRepeated = new Set(conditions.map(({ index }) => index)).size < conditions.length;
  const each = conditions.map(condition => compare(condition, args[condition.index] ?? 0n, bits));
  return isRepeated ? each.includes(true) : !each.includes(false);
}

function compare({ op, value, valueTwo = 0n }: SeccompArgument, arg: bigint, bits: bigint): boolean {
  const cut = (number: bigint) => BigInt.asUintN(Number(bits), number);
  const [a, b] = [cut(arg), cut(value)];
  switch (op) {
    case 'SCMP_CMP_EQ':
      return a === b;
    case 'SCMP_CMP_NE':
      return a !== b;
    case 'SCMP_CMP_LT':
      return a < b;
    case 'SCMP_CMP_LE':
      return a <= b;
    case 'SCMP_CMP_GT':
      return a > b;
    case 'SCMP_CMP_GE':
      return a >= b;
    case 'SCMP_CMP_MASKED_EQ':
      return (a & b) === (cut(valueTwo) & b);
    default:
      return assert.fail(op);
  }
}
