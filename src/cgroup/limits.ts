import { BerthError } from '../base/errors';

/** Limits of a container or pod, in the OCI runtime spec's shape and units; absent means not set. */
export interface Limits {
  cpu?: {
    /** Relative weight on the v1 scale, 2 to 262144. */
    shares?: bigint;
    /** Microseconds of CPU time in each period; -1 for no limit. */
    quota?: bigint;
    /** Microseconds. */
    period?: bigint;
    /** Lists as in cpuset(7). */
    cpus?: string;
    mems?: string;
  };
  memory?: {
    /** Bytes; -1 for no limit. */
    limit?: bigint;
    /** Memory and swap together; -1 for no limit. */
    swap?: bigint;
  };
  /** -1 for no limit. */
  pids?: { limit: bigint };
  hugepageLimits?: readonly { pageSize: string; limit: bigint }[];
  /** Files of v2 and what to write there: `memory.high` → `1048576`. */
  unified?: Readonly<Record<string, string>>;
}

/** One value for one file of one controller. */
export interface LimitWrite {
  controller: string;
  file: string;
  value: string;
  /** Asks for nothing that a kernel without the file or the controller would not do anyway. */
  ifThere?: boolean;
}

/** Which version of cgroups a controller is in on this host; undefined: it has no such controller. */
export type VersionOf = (controller: string) => 1 | 2 | undefined;

/**
 * The writes that set limits on a new cgroup, in order for each controller.
 * For a controller that is missing there is a write, too, for who writes to refuse.
 */
export function limitWrites(limits: Limits, versionOf: VersionOf): LimitWrite[] {
  const is2 = (controller: string) => versionOf(controller) !== 1;
  return [
    ...(is2('cpu') ? cpuV2(limits) : cpuV1(limits)),
    ...cpuset(limits),
    ...(is2('memory') ? memoryV2(limits) : memoryV1(limits)),
    ...pids(limits),
    ...hugetlb(limits, is2('hugetlb')),
    ...unifiedWrites(limits.unified ?? {}, versionOf),
  ];
}

function cpuV1({ cpu = {} }: Limits): LimitWrite[] {
  return writes('cpu', [
    ['cpu.shares', cpu.shares?.toString()],
    ['cpu.cfs_period_us', cpu.period?.toString()],
    ['cpu.cfs_quota_us', cpu.quota?.toString()],
  ]);
}

function cpuV2({ cpu = {} }: Limits): LimitWrite[] {
  return writes('cpu', [
    ['cpu.weight', cpu.shares === undefined ? undefined : String(weightOfShares(cpu.shares))],
    ['cpu.max', cpuMax(cpu)],
  ]);
}

/** A quota alone leaves the period, which the kernel has at 100 ms; a period alone comes with the quota that there is. */
function cpuMax({ quota, period }: NonNullable<Limits['cpu']>): string | undefined {
  if (quota === undefined && period === undefined) return undefined;
  const first = quota === undefined || quota < 0n ? 'max' : String(quota);
  return period === undefined ? first : `${first} ${period}`;
}

function cpuset({ cpu = {} }: Limits): LimitWrite[] {
  return writes('cpuset', [
    ['cpuset.cpus', cpu.cpus],
    ['cpuset.mems', cpu.mems],
  ]);
}

/** Memory before the sum of both, which may never be the smaller one. */
function memoryV1({ memory = {} }: Limits): LimitWrite[] {
  return writes('memory', [
    ['memory.limit_in_bytes', memory.limit?.toString()],
    ['memory.memsw.limit_in_bytes', memory.swap?.toString(), needsNoSwapAccounting(memory)],
  ]);
}

function memoryV2({ memory = {} }: Limits): LimitWrite[] {
  return writes('memory', [
    ['memory.max', orMax(memory.limit)],
    ['memory.swap.max', swapAlone(memory), needsNoSwapAccounting(memory)],
  ]);
}

/** Where swap is not accounted there is mostly none: no limit of it, and no use of it, need no file. */
function needsNoSwapAccounting({ limit, swap }: NonNullable<Limits['memory']>): boolean {
  return swap === undefined || swap < 0n || swap === limit;
}

/** v2 counts swap alone. */
function swapAlone({ limit, swap }: NonNullable<Limits['memory']>): string | undefined {
  if (swap === undefined || swap < 0n) return orMax(swap);
  return String(swap - (limit === undefined || limit < 0n ? 0n : limit));
}

function pids(limits: Limits): LimitWrite[] {
  return writes('pids', [['pids.max', orMax(limits.pids?.limit)]]);
}

/** Page sizes as in the files' names; reservations, which mmap(2) makes, are limited as faults are (Linux 5.7). */
function hugetlb({ hugepageLimits = [] }: Limits, is2: boolean): LimitWrite[] {
  return hugepageLimits.flatMap(({ pageSize, limit }) =>
    writes('hugetlb', [
      [`hugetlb.${pageSize}.${is2 ? 'max' : 'limit_in_bytes'}`, String(limit), limit === 0n],
      [`hugetlb.${pageSize}.rsvd.${is2 ? 'max' : 'limit_in_bytes'}`, String(limit), true],
    ]),
  );
}

function unifiedWrites(keys: Readonly<Record<string, string>>, versionOf: VersionOf): LimitWrite[] {
  return Object.entries(keys).map(([file, value]) => {
    const controller = file.split('.', 1)[0] ?? '';
    if (!/^[a-z]+(\.[a-z0-9_]+)+$/i.test(file) || controller === 'cgroup') {
      throw new BerthError(
        'invalid_argument',
        `unified key ${JSON.stringify(file)} is no file of a cgroup v2 controller`,
      );
    }
    if (versionOf(controller) === 1) {
      throw new BerthError(
        'failed_precondition',
        `unified key ${file}=${value}: the ${controller} controller of this host is in cgroup v1, and unified keys are for v2`,
      );
    }
    return { controller, file, value };
  });
}

type Entry = readonly [file: string, value: string | undefined, ifThere?: boolean];

function writes(controller: string, entries: readonly Entry[]): LimitWrite[] {
  return entries.flatMap(([file, value, ifThere = false]) =>
    value === undefined || value === '' ? [] : [{ controller, file, value, ...(ifThere ? { ifThere } : {}) }],
  );
}

function orMax(limit: bigint | undefined): string | undefined {
  if (limit === undefined) return undefined;
  return limit < 0n ? 'max' : String(limit);
}

/** What v1 takes for cpu.shares; it makes these of what is beyond. */
export const MIN_SHARES = 2n;
export const MAX_SHARES = 262144n;

/**
 * Shares 2…262144 to weight 1…10000, so that 1024, v1's default, is 100, v2's:
 * a parabola through these three points in logarithms, the formula of runc 1.3.2
 * and crun 1.23. The straight line before it made 1024 shares a weight of 39.
 */
export function weightOfShares(shares: bigint): bigint {
  if (shares <= MIN_SHARES) return 1n;
  if (shares >= MAX_SHARES) return 10000n;
  const log = Math.log2(Number(shares));
  const weight = 10 ** ((log * (log + 125)) / 612 - 7 / 34);
  // Rounded up, but not for the error of the logarithm alone.
  return BigInt(Math.ceil(weight - 1e-9));
}
