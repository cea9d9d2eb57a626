import { existsSync, readdirSync } from 'node:fs';
import { homeOf, type Hierarchies, type Home } from './hierarchies';
import { CgroupTable, single, times1000, type TableFile } from './table';

/** What metrics tell of a cgroup beside its usage. Undefined is what this host does not count. */
export interface Details {
  userNs: number | undefined;
  systemNs: number | undefined;
  /** Of the limit of CPU time: how many periods there were, in how many it was reached, and how long that held processes up. */
  periods: number | undefined;
  throttledPeriods: number | undefined;
  throttledNs: number | undefined;
  cacheBytes: number | undefined;
  mappedFileBytes: number | undefined;
  activeFileBytes: number | undefined;
  kernelBytes: number | undefined;
  peakBytes: number | undefined;
  /** How often the limit of memory was reached. */
  limitHits: number | undefined;
  oomKills: number | undefined;
  /** Of the cgroup itself, without those below; v1 alone tells them apart. */
  ownPageFaults: number | undefined;
  ownMajorPageFaults: number | undefined;
  tasksMax: number | undefined;
  hugepages: HugepageUse[];
}

interface HugepageUse {
  /** As in the files' names: `2MB`. */
  pageSize: string;
  bytes: number;
  /** v2 does not keep it. */
  peakBytes?: number | undefined;
}

export function detailsTable(hierarchies: Hierarchies): CgroupTable<Details> {
  const memory = homeOf(hierarchies, 'memory');
  const pids = homeOf(hierarchies, 'pids');
  return new CgroupTable<Details>(
    [
      ...cpuTimes(hierarchies),
      ...throttling(homeOf(hierarchies, 'cpu')),
      ...(memory === undefined ? [] : memory.version === 1 ? memoryV1(memory) : memoryV2(memory)),
      ...(pids ? [single<Details>(pids, 'pids.max', (row, value) => (row.tasksMax = value))] : []),
      ...hugepages(homeOf(hierarchies, 'hugetlb')),
    ],
    nothing,
  );
}

function nothing(): Details {
  return {
    userNs: undefined,
    systemNs: undefined,
    periods: undefined,
    throttledPeriods: undefined,
    throttledNs: undefined,
    cacheBytes: undefined,
    mappedFileBytes: undefined,
    activeFileBytes: undefined,
    kernelBytes: undefined,
    peakBytes: undefined,
    limitHits: undefined,
    oomKills: undefined,
    ownPageFaults: undefined,
    ownMajorPageFaults: undefined,
    tasksMax: undefined,
    hugepages: [],
  };
}

function cpuTimes(hierarchies: Hierarchies): TableFile<Details>[] {
  const v1 = homeOf(hierarchies, 'cpuacct');
  if (v1?.version === 1) {
    return [
      single(v1, 'cpuacct.usage_user', (row, ns) => (row.userNs = ns)),
      single(v1, 'cpuacct.usage_sys', (row, ns) => (row.systemNs = ns)),
    ];
  }
  if (hierarchies.v2 === undefined) return [];
  return [
    {
      mountpoint: hierarchies.v2,
      file: 'cpu.stat',
      keys: ['user_usec', 'system_usec'],
      take: (row, numbers) => {
        row.userNs = times1000(numbers.next());
        row.systemNs = times1000(numbers.next());
      },
    },
  ];
}

function throttling(home: Home | undefined): TableFile<Details>[] {
  if (!home) return [];
  return [
    {
      mountpoint: home.mountpoint,
      file: 'cpu.stat',
      keys: ['nr_periods', 'nr_throttled', home.version === 1 ? 'throttled_time' : 'throttled_usec'],
      take: (row, numbers) => {
        row.periods = numbers.next();
        row.throttledPeriods = numbers.next();
        const time = numbers.next();
        row.throttledNs = home.version === 1 ? time : times1000(time);
      },
    },
  ];
}

function memoryV1(home: Home): TableFile<Details>[] {
  const totals = ['total_cache', 'total_mapped_file', 'total_active_file'];
  return [
    {
      mountpoint: home.mountpoint,
      file: 'memory.stat',
      keys: [...totals, 'pgfault', 'pgmajfault'],
      take: (row, numbers) => {
        row.cacheBytes = numbers.next();
        row.mappedFileBytes = numbers.next();
        row.activeFileBytes = numbers.next();
        row.ownPageFaults = numbers.next();
        row.ownMajorPageFaults = numbers.next();
      },
    },
    single(home, 'memory.kmem.usage_in_bytes', (row, bytes) => (row.kernelBytes = bytes)),
    single(home, 'memory.max_usage_in_bytes', (row, bytes) => (row.peakBytes = bytes)),
    single(home, 'memory.failcnt', (row, times) => (row.limitHits = times)),
    single(home, 'memory.oom_control', (row, kills) => (row.oomKills = kills), 'oom_kill'),
  ];
}

function memoryV2(home: Home): TableFile<Details>[] {
  return [
    {
      mountpoint: home.mountpoint,
      file: 'memory.stat',
      keys: ['file', 'file_mapped', 'active_file', 'kernel'],
      take: (row, numbers) => {
        row.cacheBytes = numbers.next();
        row.mappedFileBytes = numbers.next();
        row.activeFileBytes = numbers.next();
        row.kernelBytes = numbers.next();
      },
    },
    single(home, 'memory.peak', (row, bytes) => (row.peakBytes = bytes)),
    {
      mountpoint: home.mountpoint,
      file: 'memory.events',
      keys: ['max', 'oom_kill'],
      take: (row, numbers) => {
        row.limitHits = numbers.next();
        row.oomKills = numbers.next();
      },
    },
  ];
}

function hugepages(home: Home | undefined): TableFile<Details>[] {
  return home
    ? pageSizes().flatMap(size => (home.version === 1 ? hugepagesV1(home, size) : hugepagesV2(home, size)))
    : [];
}

function hugepagesV1(home: Home, pageSize: string): TableFile<Details>[] {
  return [
    single(home, `hugetlb.${pageSize}.usage_in_bytes`, (row, bytes) => {
      if (bytes !== undefined) row.hugepages.push({ pageSize, bytes });
    }),
    single(home, `hugetlb.${pageSize}.max_usage_in_bytes`, (row, peakBytes) => {
      const use = row.hugepages.at(-1);
      if (use?.pageSize === pageSize) use.peakBytes = peakBytes;
    }),
  ];
}

function hugepagesV2(home: Home, pageSize: string): TableFile<Details>[] {
  return [
    single(home, `hugetlb.${pageSize}.current`, (row, bytes) => {
      if (bytes !== undefined) row.hugepages.push({ pageSize, bytes });
    }),
  ];
}

const SIZES = '/sys/kernel/mm/hugepages';

/** `hugepages-2048kB` is `2MB` to cgroups. */
function pageSizes(): string[] {
  if (!existsSync(SIZES)) return [];
  return readdirSync(SIZES).flatMap(name => {
    const kilobytes = Number(/^hugepages-(\d+)kB$/.exec(name)?.[1]);
    if (!kilobytes) return [];
    if (kilobytes >= 1 << 20) return `${kilobytes >> 20}GB`;
    return kilobytes >= 1024 ? `${kilobytes >> 10}MB` : `${kilobytes}KB`;
  });
}
