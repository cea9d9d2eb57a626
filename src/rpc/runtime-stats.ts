import type { Logger } from '../base/log';
import type { Containers } from '../container/containers';
import type { ContainerStatsFilter, PodSandboxStatsFilter, RuntimeServiceServer } from '../cri';
import type { Sandbox, Sandboxes } from '../sandbox/sandboxes';
import { containerStatsMessage, placeOf, podStatsMessage } from '../stats/encode';
import type { ContainerReading, PodReading, Readings } from '../stats/readings';
import { sendItems } from './batches';
import { encoded, encodedPieces } from './encoded';
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
  const containersMessage = (found: readonly ContainerReading[]) => containerStatsMessage(STATS, found, place);
  const podsMessage = (found: readonly PodReading[]) => podStatsMessage(STATS, found, place);
  const listed = (filter?: ContainerStatsFilter) =>
    readings.containersInParts(listedContainers(containers.list(), filter));
  const listedPods = (filter?: PodSandboxStatsFilter) =>
    readings.podsInParts(listedSandboxes(sandboxes.list(), filter).filter(isReady));
  return {
    containerStats: unary(log, 'ContainerStats', async ({ containerId }) =>
      encoded(containersMessage(await readings.containers([getContainer(containers, containerId)]))),
    ),
    listContainerStats: unary(log, 'ListContainerStats', async ({ filter }) =>
      encodedPieces(await messages(listed(filter), containersMessage)),
    ),
    streamContainerStats: serverStream(log, 'StreamContainerStats', async ({ filter }, _ctx, send) => {
      for await (const some of listed(filter))
        await sendItems(
          send,
          some.map(reading => containersMessage([reading])),
        );
    }),
    podSandboxStats: unary(log, 'PodSandboxStats', async ({ podSandboxId }) =>
      encoded(podsMessage(await readings.pods([getSandbox(sandboxes, podSandboxId)]))),
    ),
    listPodSandboxStats: unary(log, 'ListPodSandboxStats', async ({ filter }) =>
      encodedPieces(await messages(listedPods(filter), podsMessage)),
    ),
    streamPodSandboxStats: serverStream(log, 'StreamPodSandboxStats', async ({ filter }, _ctx, send) => {
      for await (const some of listedPods(filter))
        await sendItems(
          send,
          some.map(reading => podsMessage([reading])),
        );
    }),
  } satisfies Partial<RuntimeServiceServer>;
}

/** One after the other, these are the message of all parts. */
async function messages<Part>(parts: AsyncIterable<Part>, encode: (part: Part) => Buffer): Promise<Buffer[]> {
  const found: Buffer[] = [];
  for await (const part of parts) found.push(encode(part));
  return found;
}

function isReady({ record }: Sandbox): boolean {
  return record.state === 'ready';
}
