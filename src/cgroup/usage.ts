import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { homeOf, type Hierarchies, type Home } from './hierarchies';
import { CgroupTable, single, times1000, type Numbers, type TableFile } from './table';

/**
 * What a cgroup and all below it use. Undefined is what this host does not count;
 * all is undefined once the cgroup is gone. Numbers, not bigints: thousands are
 * read at a time, and above 2^53 (104 days of CPU time in nanoseconds) the rounding
 * is far below what a reading is exact to.
 */
export interface Usage {
  /** CPU time since the cgroup was made. */
  cpuNs: number | undefined;
  /** Page cache included. */
  memoryBytes: number | undefined;
  /** Page cache that was not touched lately: the first to go when memory is short. */
  inactiveFileBytes: number | undefined;
  /** Undefined: no limit. */
  memoryLimitBytes: number | undefined;
  anonBytes: number | undefined;
  pageFaults: number | undefined;
  majorPageFaults: number | undefined;
  swapBytes: number | undefined;
  /** Undefined: no limit. */
  swapLimitBytes: number | undefined;
  /** Processes and threads. */
  tasks: number | undefined;
  cpuPressure: Pressure | undefined;
  memoryPressure: Pressure | undefined;
  ioPressure: Pressure | undefined;
}

/** Pressure stall information: some processes waited, or all did. */
export interface Pressure {
  readonly some: Stall;
  readonly full: Stall;
}

export interface Stall {
  readonly totalNs: number;
  /** Percent of the last 10, 60 and 300 seconds. */
  readonly avg10: number;
  readonly avg60: number;
  readonly avg300: number;
}

/** Reads what cgroups of this host use, all that are asked for at once. */
export function usageTable(hierarchies: Hierarchies): CgroupTable<Usage> {
  return new CgroupTable(usageFiles(hierarchies), nothing);
}

function nothing(): Usage {
  return {
    cpuNs: undefined,
    memoryBytes: undefined,
    inactiveFileBytes: undefined,
    memoryLimitBytes: undefined,
    anonBytes: undefined,
    pageFaults: undefined,
    majorPageFaults: undefined,
    swapBytes: undefined,
    swapLimitBytes: undefined,
    tasks: undefined,
    cpuPressure: undefined,
    memoryPressure: undefined,
    ioPressure: undefined,
  };
}

/**
 * A cgroup that has used no CPU time has run nothing. While its memory is what it was, too, nobody has given back any of
 * it for others; then all that its processes alone can change is as it was, and they can have begun to wait for nothing:
 * most cgroups of a node are at rest when they are read. Limits are read, or known to change (Cgroups.changeLimits).
 */
function usageFiles(hierarchies: Hierarchies): TableFile<Usage>[] {
  const memory = homeOf(hierarchies, 'memory');
  const pids = homeOf(hierarchies, 'pids');
  const cpu = cpuFiles(hierarchies);
  const signs = [...cpu, ...(memory ? [memoryInUse(memory)] : [])];
  return [
    // Memory alone says nothing of who runs; where no file is a sign, all are read.
    ...(cpu.length > 0 ? signs.map(file => ({ ...file, when: 'sign' as const })) : signs),
    ...(memory === undefined ? [] : memory.version === 1 ? [statV1(memory)] : memoryV2(memory)),
    ...(pids ? [ownDoing(single<Usage>(pids, 'pids.current', (usage, tasks) => (usage.tasks = tasks)))] : []),
    ...pressureFiles(hierarchies),
  ];
}

function ownDoing(file: TableFile<Usage>): TableFile<Usage> {
  return { ...file, when: 'unless-at-rest' };
}

/** v2 counts the time of every cgroup, with the controller or without. */
function cpuFiles(hierarchies: Hierarchies): TableFile<Usage>[] {
  const v1 = homeOf(hierarchies, 'cpuacct');
  if (v1?.version === 1) return [single(v1, 'cpuacct.usage', (usage, ns) => (usage.cpuNs = ns))];
  if (hierarchies.v2 === undefined) return [];
  return [
    single(
      { mountpoint: hierarchies.v2 },
      'cpu.stat',
      (usage, microseconds) => (usage.cpuNs = times1000(microseconds)),
      'usage_usec',
    ),
  ];
}

function memoryInUse(home: Home): TableFile<Usage> {
  const file = home.version === 1 ? 'memory.usage_in_bytes' : 'memory.current';
  return single(home, file, (usage, bytes) => (usage.memoryBytes = bytes));
}

/** v1 says the limits in it, too. */
function statV1(home: Home): TableFile<Usage> {
  const limits = ['hierarchical_memory_limit', 'hierarchical_memsw_limit'];
  const totals = ['total_rss', 'total_swap', 'total_pgfault', 'total_pgmajfault', 'total_inactive_file'];
  return ownDoing({
    mountpoint: home.mountpoint,
    file: 'memory.stat',
    keys: [...limits, ...totals],
    take: (usage, numbers) => {
      const [limit, sum] = [limitOf(numbers.next()), limitOf(numbers.next())];
      usage.memoryLimitBytes = limit;
      // v1 limits memory and swap together: what is left for swap even when all of the memory is in use.
      if (limit !== undefined && sum !== undefined) usage.swapLimitBytes = sum - limit;
      usage.anonBytes = numbers.next();
      usage.swapBytes = numbers.next();
      usage.pageFaults = numbers.next();
      usage.majorPageFaults = numbers.next();
      usage.inactiveFileBytes = numbers.next();
    },
  });
}

function memoryV2(home: Home): TableFile<Usage>[] {
  return [
    single(home, 'memory.max', (usage, bytes) => (usage.memoryLimitBytes = limitOf(bytes))),
    ownDoing(single(home, 'memory.swap.current', (usage, bytes) => (usage.swapBytes = bytes))),
    single(home, 'memory.swap.max', (usage, bytes) => (usage.swapLimitBytes = limitOf(bytes))),
    ownDoing({
      mountpoint: home.mountpoint,
      file: 'memory.stat',
      keys: ['anon', 'inactive_file', 'pgfault', 'pgmajfault'],
      take: (usage, numbers) => {
        usage.anonBytes = numbers.next();
        usage.inactiveFileBytes = numbers.next();
        usage.pageFaults = numbers.next();
        usage.majorPageFaults = numbers.next();
      },
    }),
  ];
}

const STALL_KEYS = ['avg10', 'avg60', 'avg300', 'total'];

/** v2's, and there without controllers, too: so a hybrid host has it. A kernel may be built or booted without. */
function pressureFiles({ v2 }: Hierarchies): TableFile<Usage>[] {
  if (v2 === undefined) return [];
  return (['cpu', 'memory', 'io'] as const)
    .filter(of => existsSync(join(v2, `${of}.pressure`)))
    .map(of => ({
      mountpoint: v2,
      file: `${of}.pressure`,
      keys: ['some', 'full'].flatMap(line => STALL_KEYS.map(key => `${line} ${key}`)),
      when: 'unless-calm',
      take: (usage, numbers) => {
        const some = stall(numbers);
        const full = stall(numbers);
        // Before Linux 5.13 cpu.pressure had no line "full".
        if (some)
          usage[`${of}Pressure`] = some === NO_STALL && !full?.totalNs ? NO_PRESSURE : { some, full: full ?? NO_STALL };
      },
    }));
}

/* Most cgroups have waited for nothing, and there are hundreds of them in a list. */
const NO_STALL: Stall = Object.freeze({ totalNs: 0, avg10: 0, avg60: 0, avg300: 0 });
const NO_PRESSURE: Pressure = Object.freeze({ some: NO_STALL, full: NO_STALL });

/** The kernel's total is in microseconds. */
function stall(numbers: Numbers): Stall | undefined {
  const avg10 = numbers.next() ?? 0;
  const avg60 = numbers.next() ?? 0;
  const avg300 = numbers.next() ?? 0;
  const total = numbers.next();
  if (total === undefined) return undefined;
  return total === 0 ? NO_STALL : { avg10, avg60, avg300, totalNs: total * 1000 };
}

/** No limit is `max` in v2, and in v1 the largest multiple of a page's size that 63 bits can hold. */
function limitOf(value: number | undefined): number | undefined {
  return value !== undefined && value < 2 ** 62 ? value : undefined;
}
