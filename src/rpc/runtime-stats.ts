import type { Logger } from '../base/log';
import type { Containers } from '../container/containers';
import type { RuntimeServiceServer } from '../cri';
import type { Sandbox, Sandboxes } from '../sandbox/sandboxes';
import { containerStatsMessage, podStatsMessage } from '../stats/encode';
import type { Readings } from '../stats/readings';
import { sendItems } from './batches';
import { encoded } from './encoded';
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
  const place = { mountpoint: root };
  return {
    containerStats: unary(log, 'ContainerStats', async ({ containerId }) => {
      const found = await readings.containers([getContainer(containers, containerId)]);
      return encoded(containerStatsMessage(STATS, found, place));
    }),
    listContainerStats: unary(log, 'ListContainerStats', async ({ filter }) => {
      const found = await readings.containers(listedContainers(containers.list(), filter));
      return encoded(containerStatsMessage(STATS, found, place));
    }),
    streamContainerStats: serverStream(log, 'StreamContainerStats', async ({ filter }, _ctx, send) => {
      const found = await readings.containers(listedContainers(containers.list(), filter));
      const items = found.map(reading => containerStatsMessage(STATS, [reading], place));
      await sendItems(send, items);
    }),
    podSandboxStats: unary(log, 'PodSandboxStats', async ({ podSandboxId }) => {
      const found = await readings.pods([getSandbox(sandboxes, podSandboxId)]);
      return encoded(podStatsMessage(STATS, found, place));
    }),
    listPodSandboxStats: unary(log, 'ListPodSandboxStats', async ({ filter }) => {
      const found = await readings.pods(listedSandboxes(sandboxes.list(), filter).filter(isReady));
      return encoded(podStatsMessage(STATS, found, place));
    }),
    streamPodSandboxStats: serverStream(log, 'StreamPodSandboxStats', async ({ filter }, _ctx, send) => {
      const found = await readings.pods(listedSandboxes(sandboxes.list(), filter).filter(isReady));
      const items = found.map(reading => podStatsMessage(STATS, [reading], place));
      await sendItems(send, items);
    }),
  } satisfies Partial<RuntimeServiceServer>;
}

function isReady({ record }: Sandbox): boolean {
  return record.state === 'ready';
}
