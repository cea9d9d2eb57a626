import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { addon } from '../native/addon';
import { homeOf, type Hierarchies } from './hierarchies';

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
  some: Stall;
  full: Stall;
}

export interface Stall {
  totalNs: number;
  /** Percent of the last 10, 60 and 300 seconds. */
  avg10: number;
  avg60: number;
  avg300: number;
}

/** One file of a cgroup, the keys wanted of it (as in native/addon.ts), and what their numbers mean. */
interface UsageFile {
  mountpoint: string;
  file: string;
  keys: readonly string[];
  take(usage: Usage, numbers: Numbers): void;
}

/** Takes the numbers of a row in their order. */
interface Numbers {
  next(): number | undefined;
}

/** Reads what cgroups of this host use, all that are asked for at once. */
export class UsageReader {
  private readonly files: readonly UsageFile[];
  private readonly layout: string;
  private readonly width: number;

  constructor(hierarchies: Hierarchies) {
    this.files = usageFiles(hierarchies);
    const parts = this.files.flatMap(({ mountpoint, file, keys }) => [mountpoint, `/${file}`, ...keys, '']);
    this.layout = parts.join('\0');
    this.width = this.files.reduce((sum, { keys }) => sum + keys.length, 0);
  }

  /** By paths of cgroups, in their order. */
  async read(paths: readonly string[]): Promise<Usage[]> {
    if (paths.length === 0 || this.files.length === 0) return paths.map(nothing);
    const cells = await addon().readTable(this.layout, paths.join('\0'));
    return paths.map((_, row) => this.usageOf(cells, row * this.width));
  }

  private usageOf(cells: Float64Array, start: number): Usage {
    const usage = nothing();
    let at = start;
    const numbers = { next: () => defined(cells[at++]) };
    for (const file of this.files) file.take(usage, numbers);
    return usage;
  }
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

function defined(value: number | undefined): number | undefined {
  return value === undefined || Number.isNaN(value) ? undefined : value;
}

function usageFiles(hierarchies: Hierarchies): UsageFile[] {
  const memory = homeOf(hierarchies, 'memory');
  const pids = homeOf(hierarchies, 'pids');
  return [
    ...cpuFiles(hierarchies),
    ...(memory === undefined ? [] : memory.version === 1 ? memoryV1(memory.mountpoint) : memoryV2(memory.mountpoint)),
    ...(pids ? [single(pids.mountpoint, 'pids.current', (usage, tasks) => (usage.tasks = tasks))] : []),
    ...pressureFiles(hierarchies),
  ];
}

/** v2 counts the time of every cgroup, with the controller or without. */
function cpuFiles(hierarchies: Hierarchies): UsageFile[] {
  const v1 = homeOf(hierarchies, 'cpuacct');
  if (v1?.version === 1) return [single(v1.mountpoint, 'cpuacct.usage', (usage, ns) => (usage.cpuNs = ns))];
  if (hierarchies.v2 === undefined) return [];
  return [
    single(hierarchies.v2, 'cpu.stat', (usage, microseconds) => (usage.cpuNs = times1000(microseconds)), 'usage_usec'),
  ];
}

function memoryV1(mountpoint: string): UsageFile[] {
  const limits = ['hierarchical_memory_limit', 'hierarchical_memsw_limit'];
  const totals = ['total_inactive_file', 'total_rss', 'total_pgfault', 'total_pgmajfault', 'total_swap'];
  return [
    single(mountpoint, 'memory.usage_in_bytes', (usage, bytes) => (usage.memoryBytes = bytes)),
    {
      mountpoint,
      file: 'memory.stat',
      keys: [...limits, ...totals],
      take: (usage, numbers) => {
        const [limit, sum] = [limitOf(numbers.next()), limitOf(numbers.next())];
        usage.memoryLimitBytes = limit;
        // v1 limits memory and swap together: what is left for swap even when all of the memory is in use.
        if (limit !== undefined && sum !== undefined) usage.swapLimitBytes = sum - limit;
        usage.inactiveFileBytes = numbers.next();
        usage.anonBytes = numbers.next();
        usage.pageFaults = numbers.next();
        usage.majorPageFaults = numbers.next();
        usage.swapBytes = numbers.next();
      },
    },
  ];
}

function memoryV2(mountpoint: string): UsageFile[] {
  return [
    single(mountpoint, 'memory.current', (usage, bytes) => (usage.memoryBytes = bytes)),
    single(mountpoint, 'memory.max', (usage, bytes) => (usage.memoryLimitBytes = limitOf(bytes))),
    single(mountpoint, 'memory.swap.current', (usage, bytes) => (usage.swapBytes = bytes)),
    single(mountpoint, 'memory.swap.max', (usage, bytes) => (usage.swapLimitBytes = limitOf(bytes))),
    {
      mountpoint,
      file: 'memory.stat',
      keys: ['inactive_file', 'anon', 'pgfault', 'pgmajfault'],
      take: (usage, numbers) => {
        usage.inactiveFileBytes = numbers.next();
        usage.anonBytes = numbers.next();
        usage.pageFaults = numbers.next();
        usage.majorPageFaults = numbers.next();
      },
    },
  ];
}

const STALL_KEYS = ['avg10', 'avg60', 'avg300', 'total'];

/** v2's, and there without controllers, too: so a hybrid host has it. A kernel may be built or booted without. */
function pressureFiles({ v2 }: Hierarchies): UsageFile[] {
  if (v2 === undefined) return [];
  return (['cpu', 'memory', 'io'] as const)
    .filter(of => existsSync(join(v2, `${of}.pressure`)))
    .map(of => ({
      mountpoint: v2,
      file: `${of}.pressure`,
      keys: ['some', 'full'].flatMap(line => STALL_KEYS.map(key => `${line} ${key}`)),
      take: (usage, numbers) => {
        const [some, full] = [stall(numbers), stall(numbers)];
        // Before Linux 5.13 cpu.pressure had no line "full".
        if (some) usage[`${of}Pressure`] = { some, full: full ?? { totalNs: 0, avg10: 0, avg60: 0, avg300: 0 } };
      },
    }));
}

/** The kernel's total is in microseconds. */
function stall(numbers: Numbers): Stall | undefined {
  const [avg10 = 0, avg60 = 0, avg300 = 0, total] = [numbers.next(), numbers.next(), numbers.next(), numbers.next()];
  return total === undefined ? undefined : { avg10, avg60, avg300, totalNs: total * 1000 };
}

/** A file of which one number is wanted: the one that it begins with, or that of a key. */
function single(
  mountpoint: string,
  file: string,
  set: (usage: Usage, value: number | undefined) => unknown,
  key = '#',
): UsageFile {
  return { mountpoint, file, keys: [key], take: (usage, numbers) => void set(usage, numbers.next()) };
}

function times1000(value: number | undefined): number | undefined {
  return value === undefined ? undefined : value * 1000;
}

/** No limit is `max` in v2, and in v1 the largest multiple of a page's size that 63 bits can hold. */
function limitOf(value: number | undefined): number | undefined {
  return value !== undefined && value < 2 ** 62 ? value : undefined;
}
