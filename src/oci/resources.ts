import { BerthError } from '../base/errors';
import type { HugepageLimit, LinuxContainerResources } from '../cri';
import type { ResourcesSpec } from './spec';

/** Limits as asked for, checked; 0 and the empty string are "not set". Throws `invalid_argument`. */
export function resourcesSpec(asked: LinuxContainerResources | undefined): ResourcesSpec {
  if (!asked) return { cpu: {}, memory: {}, hugepageLimits: [], unified: {} };
  return {
    cpu: cpuOf(asked),
    memory: memoryOf(asked),
    hugepageLimits: asked.hugepageLimits.map(checkedHugepages),
    unified: asked.unified,
  };
}

/** How far the OOM killer prefers a container's processes; checked. */
export function oomScoreAdjOf(asked: LinuxContainerResources | undefined): number {
  const value = asked?.oomScoreAdj ?? 0n;
  if (value >= -1000n && value <= 1000n) return Number(value);
  throw new BerthError('invalid_argument', `oom_score_adj ${value} is not between -1000 and 1000`);
}

/** What holds after an update, which leaves alone what it does not set. */
export function mergedResources(
  present: LinuxContainerResources | undefined,
  asked: LinuxContainerResources,
): LinuxContainerResources {
  if (!present) return asked;
  const sizes = new Set(asked.hugepageLimits.map(({ pageSize }) => pageSize));
  return {
    cpuPeriod: asked.cpuPeriod || present.cpuPeriod,
    cpuQuota: asked.cpuQuota || present.cpuQuota,
    cpuShares: asked.cpuShares || present.cpuShares,
    memoryLimitInBytes: asked.memoryLimitInBytes || present.memoryLimitInBytes,
    memorySwapLimitInBytes: asked.memorySwapLimitInBytes || present.memorySwapLimitInBytes,
    oomScoreAdj: asked.oomScoreAdj || present.oomScoreAdj,
    cpusetCpus: asked.cpusetCpus || present.cpusetCpus,
    cpusetMems: asked.cpusetMems || present.cpusetMems,
    hugepageLimits: [...present.hugepageLimits.filter(({ pageSize }) => !sizes.has(pageSize)), ...asked.hugepageLimits],
    unified: { ...present.unified, ...asked.unified },
  };
}

/**
 * The part of `merged` that an update is about: what it sets, each with the
 * other half of its pair, without which the kernel could not be told.
 */
export function touchedResources(merged: ResourcesSpec, asked: LinuxContainerResources): ResourcesSpec {
  const { shares, quota, period, cpus, mems } = merged.cpu;
  const hasBandwidth = asked.cpuQuota !== 0n || asked.cpuPeriod !== 0n;
  const hasMemory = asked.memoryLimitInBytes !== 0n || asked.memorySwapLimitInBytes !== 0n;
  const sizes = new Set(asked.hugepageLimits.map(({ pageSize }) => pageSize));
  return {
    cpu: {
      ...(asked.cpuShares === 0n || shares === undefined ? {} : { shares }),
      ...(!hasBandwidth || quota === undefined ? {} : { quota }),
      ...(!hasBandwidth || period === undefined ? {} : { period }),
      ...(asked.cpusetCpus === '' || cpus === undefined ? {} : { cpus }),
      ...(asked.cpusetMems === '' || mems === undefined ? {} : { mems }),
    },
    memory: hasMemory ? merged.memory : {},
    hugepageLimits: merged.hugepageLimits.filter(({ pageSize }) => sizes.has(pageSize)),
    unified: asked.unified,
  };
}

/**
 * A pod's limits: those of all its containers together, and what the pod costs
 * beside them. Where the containers have no limit, the pod has none.
 */
export function podResources(
  containers: LinuxContainerResources | undefined,
  overhead: LinuxContainerResources | undefined,
): LinuxContainerResources | undefined {
  if (!containers || !overhead) return containers;
  const period = containers.cpuPeriod || DEFAULT_PERIOD_MICROS;
  const overheadQuota = (overhead.cpuQuota * period) / (overhead.cpuPeriod || DEFAULT_PERIOD_MICROS);
  return {
    ...containers,
    cpuQuota: sum(containers.cpuQuota, overheadQuota),
    cpuShares: sum(containers.cpuShares, overhead.cpuShares),
    memoryLimitInBytes: sum(containers.memoryLimitInBytes, overhead.memoryLimitInBytes),
    memorySwapLimitInBytes: sum(containers.memorySwapLimitInBytes, swapOf(overhead)),
    hugepageLimits: containers.hugepageLimits.map(({ pageSize, limit }) => ({
      pageSize,
      limit: limit + (overhead.hugepageLimits.find(other => other.pageSize === pageSize)?.limit ?? 0n),
    })),
  };
}

/** The kernel's. */
const DEFAULT_PERIOD_MICROS = 100_000n;

/** 0 is "not set", and -1 no limit: both stay what they are. */
function sum(limit: bigint, more: bigint): bigint {
  return limit > 0n && more > 0n ? limit + more : limit;
}

function swapOf({ memoryLimitInBytes, memorySwapLimitInBytes }: LinuxContainerResources): bigint {
  return memorySwapLimitInBytes || memoryLimitInBytes;
}

function cpuOf(asked: LinuxContainerResources): ResourcesSpec['cpu'] {
  const { cpuShares, cpuPeriod, cpuQuota, cpusetCpus, cpusetMems } = asked;
  assertThat(cpuShares >= 0n, `cpu_shares ${cpuShares} is negative`);
  assertThat(
    cpuPeriod === 0n || (cpuPeriod >= 1000n && cpuPeriod <= 1_000_000n),
    `cpu_period ${cpuPeriod} is not between 1000 and 1000000 microseconds`,
  );
  assertThat(
    cpuQuota === 0n || cpuQuota === -1n || cpuQuota >= 1000n,
    `cpu_quota ${cpuQuota} is less than 1000 microseconds and not -1, no limit`,
  );
  return {
    ...(cpuShares === 0n ? {} : { shares: cpuShares }),
    ...(cpuQuota === 0n ? {} : { quota: cpuQuota }),
    ...(cpuPeriod === 0n ? {} : { period: cpuPeriod }),
    ...(cpusetCpus === '' ? {} : { cpus: checkedList(cpusetCpus, 'cpuset_cpus') }),
    ...(cpusetMems === '' ? {} : { mems: checkedList(cpusetMems, 'cpuset_mems') }),
  };
}

/**
 * `memory_swap_limit_in_bytes` is memory and swap together. A memory limit
 * without it is one of both: the container does not swap unless it was said to.
 */
function memoryOf(asked: LinuxContainerResources): ResourcesSpec['memory'] {
  const { memoryLimitInBytes: limit, memorySwapLimitInBytes: swap } = asked;
  assertThat(limit >= -1n, `memory_limit_in_bytes ${limit} is negative and not -1, no limit`);
  assertThat(swap >= -1n, `memory_swap_limit_in_bytes ${swap} is negative and not -1, no limit`);
  if (limit === 0n && swap === 0n) return {};
  assertThat(
    swap <= 0n || limit > 0n,
    `memory_swap_limit_in_bytes ${swap} is set without a limit of memory_limit_in_bytes`,
  );
  assertThat(
    swap <= 0n || swap >= limit,
    `memory_swap_limit_in_bytes ${swap}, of memory and swap together, is less than memory_limit_in_bytes ${limit}`,
  );
  // Without a limit of memory there can be none of both.
  assertThat(limit !== -1n || swap <= 0n, `memory_swap_limit_in_bytes ${swap} is set with unlimited memory`);
  return { ...(limit === 0n ? {} : { limit }), swap: swap === 0n ? limit : swap };
}

function checkedHugepages({ pageSize, limit }: HugepageLimit): { pageSize: string; limit: bigint } {
  assertThat(/^[1-9]\d*[KMG]B$/.test(pageSize), `hugepage_limits: ${JSON.stringify(pageSize)} is no page size as 2MB`);
  return { pageSize, limit };
}

function checkedList(list: string, field: string): string {
  const item = String.raw`\d+(-\d+(:\d+\/\d+)?)?`;
  assertThat(
    new RegExp(`^${item}(,${item})*$`).test(list),
    `${field} ${JSON.stringify(list)} is no list as "0-3,7" of cpuset(7)`,
  );
  return list;
}

function assertThat(isTrue: boolean, otherwise: string): void {
  if (!isTrue) throw new BerthError('invalid_argument', otherwise);
}
