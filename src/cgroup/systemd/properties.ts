import type { Variant } from '../../dbus/values';
import type { DeviceRule } from '../devices';
import { MAX_SHARES, MIN_SHARES, weightOfShares, type Limits, type VersionOf } from '../limits';

/** A unit's property, as systemd's methods take it. */
export type Property = readonly [name: string, value: Variant];

/** No limit, in systemd's words. */
const INFINITY = 2n ** 64n - 1n;

/** systemd keeps a quota by the hundredth of a CPU: rounded up, so that it is never below the container's own. */
const CPU_PERCENT_MICROS = 10_000n;
const DEFAULT_PERIOD_MICROS = 100_000n;

/** The unit that limits are for. */
export interface UnitKind {
  versionOf: VersionOf;
  /**
   * A scope has the holder in it, which a limit of processes does not count, and a cgroup of berth's own below, which has the
   * limits as well; a slice is the cgroup that they hold in.
   */
  isScope: boolean;
}

/**
 * The properties that say what limits say. They are systemd's copy: it writes them again when it is reloaded, and
 * `systemctl` shows them. What it has no property for (huge pages, some `unified` keys, cpusets of v1) is in the container's own
 * cgroup alone.
 */
export function limitProperties(limits: Limits, { versionOf, isScope }: UnitKind): Property[] {
  const { cpu = {}, memory = {}, pids } = limits;
  const beside = isScope ? 1n : 0n;
  const swap = versionOf('memory') === 1 ? undefined : swapAlone(memory);
  return [
    ...(versionOf('cpu') === 1 ? cpuV1(cpu, isScope) : cpuV2(cpu)),
    ...(versionOf('cpuset') === 1 ? [] : cpusetProperties(cpu)),
    ...(memory.limit === undefined ? [] : [u64('MemoryMax', orInfinity(memory.limit))]),
    ...(swap === undefined ? [] : [u64('MemorySwapMax', swap)]),
    ...(pids === undefined ? [] : [u64('TasksMax', more(orInfinity(pids.limit), beside))]),
    ...Object.entries(limits.unified ?? {}).flatMap(([key, value]) => unifiedProperties(key, value, beside)),
  ];
}

type CpuLimits = NonNullable<Limits['cpu']>;

/**
 * The shares themselves: systemd would make others of a weight. A scope has no quota, since v1 takes none that is a larger share of its
 * period than the one above: systemd's is rounded, so the pod's could not be made the container's own, and the container's could
 * only be raised after systemd had raised the scope's.
 */
function cpuV1({ shares, quota, period }: CpuLimits, isScope: boolean): Property[] {
  return [
    ...(shares === undefined ? [] : [u64('CPUShares', withinShares(shares))]),
    ...(isScope ? [] : quotaProperties(quota, period)),
  ];
}

/** What the kernel makes of others. */
function withinShares(shares: bigint): bigint {
  if (shares < MIN_SHARES) return MIN_SHARES;
  return shares > MAX_SHARES ? MAX_SHARES : shares;
}

function cpuV2({ shares, quota, period }: CpuLimits): Property[] {
  return [
    ...(shares === undefined ? [] : [u64('CPUWeight', weightOfShares(shares))]),
    ...quotaProperties(quota, period),
  ];
}

function cpusetProperties({ cpus, mems }: CpuLimits): Property[] {
  return [...(cpus ? [set('AllowedCPUs', cpus)] : []), ...(mems ? [set('AllowedMemoryNodes', mems)] : [])];
}

function quotaProperties(quota: bigint | undefined, period: bigint | undefined): Property[] {
  if (quota === undefined) return period === undefined ? [] : [u64('CPUQuotaPeriodUSec', period)];
  const exact = (quota * 1_000_000n) / (period ?? DEFAULT_PERIOD_MICROS);
  const perSecond = ((exact + CPU_PERCENT_MICROS - 1n) / CPU_PERCENT_MICROS) * CPU_PERCENT_MICROS;
  return [
    u64('CPUQuotaPerSecUSec', quota < 0n ? INFINITY : perSecond),
    ...(period === undefined ? [] : [u64('CPUQuotaPeriodUSec', period)]),
  ];
}

/** systemd counts swap alone, as v2 does. */
function swapAlone({ limit, swap }: NonNullable<Limits['memory']>): bigint | undefined {
  if (swap === undefined) return undefined;
  if (swap < 0n) return INFINITY;
  return swap - (limit === undefined || limit < 0n ? 0n : limit);
}

const MEMORY_FILES: Readonly<Record<string, string>> = {
  'memory.max': 'MemoryMax',
  'memory.high': 'MemoryHigh',
  'memory.low': 'MemoryLow',
  'memory.min': 'MemoryMin',
  'memory.swap.max': 'MemorySwapMax',
};

const IO_MAX: Readonly<Record<string, string>> = {
  rbps: 'IOReadBandwidthMax',
  wbps: 'IOWriteBandwidthMax',
  riops: 'IOReadIOPSMax',
  wiops: 'IOWriteIOPSMax',
};

/** A v2 file's property; a value that it cannot hold is left to the kernel, which says what is wrong with it. */
function unifiedProperties(file: string, text: string, processesBeside: bigint): Property[] {
  const value = text.trim();
  const memory = MEMORY_FILES[file];
  if (memory !== undefined) return numbers(value, bytes => u64(memory, bytes));
  switch (file) {
    case 'cpu.weight':
      return numbers(value, weight => u64('CPUWeight', weight));
    case 'cpu.max':
      return cpuMax(value);
    case 'cpuset.cpus':
      return isList(value) ? [set('AllowedCPUs', value)] : [];
    case 'cpuset.mems':
      return isList(value) ? [set('AllowedMemoryNodes', value)] : [];
    case 'pids.max':
      return numbers(value, count => u64('TasksMax', more(count, processesBeside)));
    case 'io.weight':
      return ioWeight(value);
    case 'io.max':
      return ioMax(value);
    case 'io.latency':
      return ofDevice(value, (device, { target }) =>
        target === undefined ? [] : [perDevice('IODeviceLatencyTargetUSec', device, target)],
      );
    default:
      return [];
  }
}

function cpuMax(value: string): Property[] {
  const [, quota = '', period] = /^(max|\d+)(?: (\d+))?$/.exec(value) ?? [];
  if (quota === '' || period === '0') return [];
  return quotaProperties(quota === 'max' ? -1n : BigInt(quota), period === undefined ? undefined : BigInt(period));
}

function ioWeight(value: string): Property[] {
  const [, device, weight = ''] = /^(?:default |(\d+:\d+) )?(\d+)$/.exec(value) ?? [];
  if (weight === '') return [];
  return device === undefined
    ? [u64('IOWeight', BigInt(weight))]
    : [perDevice('IODeviceWeight', device, BigInt(weight))];
}

function ioMax(value: string): Property[] {
  return ofDevice(value, (device, limits) =>
    Object.entries(limits).flatMap(([key, limit]) => {
      const name = IO_MAX[key];
      return name === undefined ? [] : [perDevice(name, device, limit)];
    }),
  );
}

/** `8:0 rbps=1048576 wiops=max` */
function ofDevice(value: string, make: (device: string, limits: Record<string, bigint>) => Property[]): Property[] {
  const [device = '', ...pairs] = value.split(/\s+/);
  if (!/^\d+:\d+$/.test(device)) return [];
  const limits = pairs.flatMap((pair): [string, bigint][] => {
    const [, key = '', number = ''] = /^(\w+)=(max|\d+)$/.exec(pair) ?? [];
    return number === '' ? [] : [[key, number === 'max' ? INFINITY : BigInt(number)]];
  });
  return make(device, Object.fromEntries(limits));
}

/**
 * What may be done with devices, where systemd has words for it: all is forbidden but a list. The container's own cgroup
 * has a program of berth's either way, and both must allow.
 */
export function deviceProperties(rules: readonly DeviceRule[]): Property[] {
  const [first, ...allowed] = rules;
  if (!first || first.allow || first.type !== 'a') return [];
  const patterns = allowed.map(devicePattern);
  if (!patterns.every(pattern => pattern !== undefined)) return [];
  return [
    ['DevicePolicy', { signature: 's', value: 'strict' }],
    ['DeviceAllow', { signature: 'a(ss)', value: patterns }],
  ];
}

function devicePattern({ allow, type, major, minor, access }: DeviceRule): [string, string] | undefined {
  if (!allow || type === 'a' || (major === undefined && minor !== undefined)) return undefined;
  const kind = type === 'c' ? 'char' : 'block';
  const pattern = minor === undefined ? `${kind}-${major ?? '*'}` : `/dev/${kind}/${major}:${minor}`;
  return [pattern, access];
}

function u64(name: string, value: bigint): Property {
  return [name, { signature: 't', value }];
}

function perDevice(name: string, device: string, value: bigint): Property {
  return [name, { signature: 'a(st)', value: [[`/dev/block/${device}`, value]] }];
}

/** A list of cpuset(7) as bits. */
function set(name: string, list: string): Property {
  const bits = list.split(',').flatMap(numbersOf);
  const bytes = Buffer.alloc((Math.max(...bits) >> 3) + 1);
  for (const bit of bits) bytes.writeUInt8(bytes.readUInt8(bit >> 3) | (1 << (bit & 7)), bit >> 3);
  return [name, { signature: 'ay', value: bytes }];
}

/** More than any machine has; what a list says beyond is the kernel's to refuse. */
const MAX_CPU = 8191;

/** `0-7:2/4` is 0, 1, 4 and 5: of each group of four the first two. */
function numbersOf(item: string): number[] {
  const [, first = '0', last = first, used = '1', group = '1'] =
    /^(\d+)(?:-(\d+)(?::(\d+)\/(\d+))?)?$/.exec(item) ?? [];
  const from = Math.min(Number(first), MAX_CPU);
  const count = Math.min(Number(last), MAX_CPU) - from + 1;
  const all = Array.from({ length: Math.max(count, 1) }, (_, i) => from + i);
  return all.filter(n => (n - from) % (Number(group) || 1) < Number(used));
}

function isList(value: string): boolean {
  return /^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(value);
}

function numbers(value: string, make: (value: bigint) => Property): Property[] {
  if (value === 'max') return [make(INFINITY)];
  return /^\d+$/.test(value) ? [make(BigInt(value))] : [];
}

function orInfinity(limit: bigint): bigint {
  return limit < 0n ? INFINITY : limit;
}

function more(limit: bigint, by: bigint): bigint {
  return limit === INFINITY ? limit : limit + by;
}
