import type { Logger } from '../base/log';
import type { Containers } from '../container/containers';
import type { ContainerStatsFilter, PodSandboxStatsFilter, RuntimeServiceServer } from '../cri';
import type { Sandbox, Sandboxes } from '../sandbox/sandboxes';
import { placeOf, writeContainerStats, writePodStats } from '../stats/encode';
import type { ContainerReading, PodReading, Readings } from '../stats/readings';
import { Wire } from '../stats/wire';
import { sendItems } from './batches';
import { encodedBy } from './encoded';
import { getContainer, getSandbox } from './find';
import { serverStream, unary } from './handler';
import { listedContainers, listedSandboxes } from './runtime-lists';

export interface StatsParts {
  log: Logger;
  sandboxes: Sandboxes;
  containers: Containers;
  readings: Readings;
  /** The directory of the file system that writable layers are on; ImageFsInfo names the same. */
  root: string;
}

/** The field of each of these responses that has the stats. */
const STATS = 1;

/** What containers and pods use. A list has the pods that are ready, and all containers: one that has ended still takes space. */
export function statsRpcs({ log, sandboxes, containers, readings, root }: StatsParts) {
  const place = placeOf(root);
  const writeContainers = (wire: Wire, found: readonly ContainerReading[]) =>
    writeContainerStats(wire, STATS, found, place);
  const writePods = (wire: Wire, found: readonly PodReading[]) => writePodStats(wire, STATS, found, place);
  const listed = (filter?: ContainerStatsFilter) =>
    readings.containersInParts(listedContainers(containers.list(), filter));
  const listedPods = (filter?: PodSandboxStatsFilter) =>
    readings.podsInParts(listedSandboxes(sandboxes.list(), filter).filter(isReady));
  return {
    containerStats: unary(log, 'ContainerStats', async ({ containerId }) =>
      encodedBy(written(await readings.containers([getContainer(containers, containerId)]), writeContainers)),
    ),
    listContainerStats: unary(log, 'ListContainerStats', async ({ filter }) =>
      encodedBy(await writtenAll(listed(filter), writeContainers)),
    ),
    streamContainerStats: serverStream(log, 'StreamContainerStats', async ({ filter }, _ctx, send) => {
      for await (const some of listed(filter))
        await sendItems(
          send,
          some.map(reading => written([reading], writeContainers).finish()),
        );
    }),
    podSandboxStats: unary(log, 'PodSandboxStats', async ({ podSandboxId }) =>
      encodedBy(written(await readings.pods([getSandbox(sandboxes, podSandboxId)]), writePods)),
    ),
    listPodSandboxStats: unary(log, 'ListPodSandboxStats', async ({ filter }) =>
      encodedBy(await writtenAll(listedPods(filter), writePods)),
    ),
    streamPodSandboxStats: serverStream(log, 'StreamPodSandboxStats', async ({ filter }, _ctx, send) => {
      for await (const some of listedPods(filter))
        await sendItems(
          send,
          some.map(reading => written([reading], writePods).finish()),
        );
    }),
  } satisfies Partial<RuntimeServiceServer>;
}

type Write<Reading> = (wire: Wire, some: readonly Reading[]) => void;

function written<Reading>(some: readonly Reading[], write: Write<Reading>): Wire {
  const wire = new Wire(2048 * some.length);
  write(wire, some);
  return wire;
}

async function writtenAll<Reading>(parts: AsyncIterable<Reading[]>, write: Write<Reading>): Promise<Wire> {
  const wire = Wire.ofList();
  for await (const part of parts) write(wire, part);
  return wire;
}

function isReady({ record }: Sandbox): boolean {
  return record.state === 'ready';
}
