import { BerthError } from '../base/errors';

/** One number for one file of one controller. */
export interface LimitWrite {
  controller: string;
  file: string;
  value: string;
}

/** Limits of a container or pod; absent means not set. */
export interface Limits {
  cpuShares?: bigint;
  /** Microseconds of CPU time in each period; -1 for no limit. */
  cpuQuotaMicros?: bigint;
  cpuPeriodMicros?: bigint;
  cpusetCpus?: string;
  cpusetMems?: string;
  memoryLimitBytes?: bigint;
  /** Memory and swap together. */
  memorySwapLimitBytes?: bigint;
  /** Files of v2 and what to write there: `memory.high` → `1048576`. */
  unified?: Readonly<Record<string, string>>;
  pidsLimit?: bigint;
}

/** The writes that set limits on v2 (`unified`) or v1. */
export function limitWrites(limits: Limits, unified: boolean): LimitWrite[] {
  const keys = limits.unified ?? {};
  if (unified) return [...v2Writes(limits), ...unifiedWrites(keys)];
  if (Object.keys(keys).length > 0) {
    throw new BerthError('failed_precondition', 'unified cgroup keys are for cgroup v2, and this host has v1');
  }
  return v1Writes(limits);
}

function v1Writes(limits: Limits): LimitWrite[] {
  const writes: LimitWrite[] = [];
  const add = (controller: string, file: string, value: bigint | string | undefined) => {
    if (value !== undefined && value !== '') writes.push({ controller, file, value: String(value) });
  };
  add('cpu', 'cpu.shares', limits.cpuShares);
  add('cpu', 'cpu.cfs_period_us', limits.cpuPeriodMicros);
  add('cpu', 'cpu.cfs_quota_us', limits.cpuQuotaMicros);
  add('cpuset', 'cpuset.cpus', limits.cpusetCpus);
  add('cpuset', 'cpuset.mems', limits.cpusetMems);
  add('memory', 'memory.limit_in_bytes', limits.memoryLimitBytes);
  add('memory', 'memory.memsw.limit_in_bytes', limits.memorySwapLimitBytes);
  add('pids', 'pids.max', limits.pidsLimit);
  return writes;
}

function v2Writes(limits: Limits): LimitWrite[] {
  const writes: LimitWrite[] = [];
  const add = (controller: string, file: string, value: string | undefined) => {
    if (value !== undefined && value !== '') writes.push({ controller, file, value });
  };
  add('cpu', 'cpu.weight', limits.cpuShares === undefined ? undefined : String(weightOfShares(limits.cpuShares)));
  add('cpu', 'cpu.max', cpuMax(limits));
  add('cpuset', 'cpuset.cpus', limits.cpusetCpus);
  add('cpuset', 'cpuset.mems', limits.cpusetMems);
  add('memory', 'memory.max', limits.memoryLimitBytes?.toString());
  add('memory', 'memory.swap.max', swapOnly(limits));
  add('pids', 'pids.max', limits.pidsLimit?.toString());
  return writes;
}

/** v2 counts swap alone. */
function swapOnly({ memorySwapLimitBytes, memoryLimitBytes }: Limits): string | undefined {
  if (memorySwapLimitBytes === undefined) return undefined;
  const rest = memorySwapLimitBytes - (memoryLimitBytes ?? 0n);
  return (rest > 0n ? rest : 0n).toString();
}

function unifiedWrites(keys: Readonly<Record<string, string>>): LimitWrite[] {
  return Object.entries(keys).map(([file, value]) => {
    const controller = file.split('.', 1)[0] ?? '';
    if (/^[a-z]+(\.[a-z0-9_]+)+$/i.test(file) && controller !== 'cgroup') return { controller, file, value };
    throw new BerthError(
      'invalid_argument',
      `unified key ${JSON.stringify(file)} is no file of a cgroup v2 controller`,
    );
  });
}

function cpuMax({ cpuQuotaMicros, cpuPeriodMicros }: Limits): string | undefined {
  if (cpuQuotaMicros === undefined) return undefined;
  const quota = cpuQuotaMicros < 0n ? 'max' : String(cpuQuotaMicros);
  return cpuPeriodMicros === undefined ? quota : `${quota} ${cpuPeriodMicros}`;
}

/** Shares 2…262144 to weight 1…10000, linearly, as KEP-2254 lays down. */
export function weightOfShares(shares: bigint): bigint {
  const bounded = shares < 2n ? 2n : shares > 262144n ? 262144n : shares;
  return 1n + ((bounded - 2n) * 9999n) / 262142n;
}
