import type { Container, Containers } from '../container/containers';
import { writtenTrees } from '../container/written';
import type { ContainerSize, ContainersServer } from '../cri/generated/berth/v1/containers';
import { treeUsage } from '../process/tree-usage';
import type { BerthParts } from './berth-service';
import { unary } from './handler';

export function sizesRpc({ log, containers }: BerthParts) {
  return {
    sizes: unary(log, 'Sizes', async ({ containers: names }, ctx) => {
      ctx.stage('count what containers have written');
      // Whoever asks has them from a list: one that has gone since is no reason to say nothing of the others.
      const some = names.map(name => containers.find(name)).filter(container => container !== undefined);
      return { sizes: await sizesOf(containers, some) };
    }),
  } satisfies Partial<ContainersServer>;
}

/** Counted now: a person may wait for it. */
async function sizesOf(containers: Containers, some: readonly Container[]): Promise<ContainerSize[]> {
  const usage = await treeUsage(some.flatMap(({ record }) => writtenTrees(containers.paths(record.id))));
  return some.flatMap(({ record: { id, imageId } }, i) => {
    const [layer, volumes] = [usage[2 * i], usage[2 * i + 1]];
    if (layer === undefined) return []; // it was removed meanwhile
    const writableBytes = layer + (volumes ?? 0n);
    const image = containers.images.find(imageId);
    return [{ id, writableBytes, rootBytes: writableBytes + (image?.sizeBytes ?? 0n) }];
  });
}
