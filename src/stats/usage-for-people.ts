import { totalmem } from 'node:os';
import type { Cgroups } from '../cgroup/groups';
import type { DeviceIo } from '../cgroup/io';
import type { Container, Containers } from '../container/containers';
import type { ContainerUsage } from '../cri/generated/berth/v1/stats';
import { workingSetOf } from './encode';
import type { InterfaceCounters } from './networks';
import type { ContainerReading, Readings } from './readings';

/** What a person looks at of containers: bytes in and out beside the reading. */
export async function usageForPeople(
  containers: Containers,
  readings: Readings,
  cgroups: Cgroups,
  some: readonly Container[],
): Promise<ContainerUsage[]> {
  const sandboxes = [...new Set(some.flatMap(({ record }) => containers.sandboxes.find(record.sandboxId) ?? []))];
  const [found, io, interfaces] = await Promise.all([
    readings.containers(some),
    cgroups.io(some.map(({ record }) => record.cgroupPath)),
    readings.interfaces(sandboxes),
  ]);
  return found.map((reading, i) => {
    const sandbox = containers.sandboxes.find(reading.container.record.sandboxId);
    return usageOf(reading, io[i] ?? [], sandbox && interfaces.get(sandbox), podOf(containers, reading.container));
  });
}

function usageOf(
  { container, usage, nanoCores, written }: ContainerReading,
  io: readonly DeviceIo[],
  interfaces: readonly InterfaceCounters[] | undefined,
  pod: string,
): ContainerUsage {
  const { record, config } = container;
  const base = {
    id: record.id,
    name: record.name ?? config.metadata?.name ?? '',
    pod,
    running: record.state === 'running',
    ...(written && { diskBytes: BigInt(written.bytes) }),
  };
  if (!usage) return base;
  const memoryBytes = workingSetOf(usage);
  return {
    ...base,
    ...(nanoCores !== undefined && { cpuCores: nanoCores / 1e9 }),
    ...(memoryBytes !== undefined && {
      memoryBytes: BigInt(memoryBytes),
      memoryLimitBytes: BigInt(Math.min(usage.memoryLimitBytes ?? Infinity, totalmem())),
    }),
    ...(interfaces && {
      receivedBytes: sum(interfaces, ({ receivedBytes }) => receivedBytes),
      sentBytes: sum(interfaces, ({ sentBytes }) => sentBytes),
    }),
    readBytes: sum(io, ({ readBytes }) => readBytes),
    writtenBytes: sum(io, ({ writtenBytes }) => writtenBytes),
    ...(usage.tasks !== undefined && { tasks: BigInt(usage.tasks) }),
  };
}

function sum<Item>(items: readonly Item[], of: (item: Item) => number): bigint {
  return BigInt(items.reduce((total, item) => total + of(item), 0));
}

function podOf({ sandboxes }: Containers, { record }: Container): string {
  return record.owner === 'cri' ? (sandboxes.find(record.sandboxId)?.config.metadata?.name ?? '') : '';
}
