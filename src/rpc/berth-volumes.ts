import { BerthError } from '../base/errors';
import type { Containers } from '../container/containers';
import { usersOf } from '../container/fill-volumes';
import type { Volume } from '../container/volumes';
import type { ContainersServer, Volume as BerthVolume } from '../cri/generated/berth/v1/containers';
import { treeUsage } from '../process/tree-usage';
import { nameOf } from './berth-containers';
import type { BerthParts } from './berth-service';
import { unary } from './handler';

const SIZE_UNKNOWN = -1n;

export function volumeRpcs({ log, containers }: BerthParts) {
  const { volumes } = containers;
  return {
    createVolume: unary(log, 'CreateVolume', async ({ name, labels }) =>
      berthVolume(containers, await (name === '' ? volumes.provideAnonymous(labels) : volumes.provide(name, labels))),
    ),
    listVolumes: unary(log, 'ListVolumes', async ({ sizes }) => {
      const all = await volumes.list();
      const usage = sizes ? await treeUsage(all.map(({ path }) => path)) : [];
      return { volumes: all.map((volume, i) => berthVolume(containers, volume, usage[i])) };
    }),
    removeVolume: unary(log, 'RemoveVolume', async ({ name }) => {
      const { path } = await volumes.get(name);
      const [freedBytes = 0n] = await treeUsage([path]);
      await volumes.remove(name, () => assertUnused(containers, name, path));
      return { freedBytes };
    }),
  } satisfies Partial<ContainersServer>;
}

function berthVolume(containers: Containers, volume: Volume, sizeBytes = SIZE_UNKNOWN): BerthVolume {
  const { name, path, createdAtNs, labels, isAnonymous } = volume;
  const users = usersOf(containers, path).map(({ record }) => record.id);
  return { name, path, createdAtNs, labels: { ...labels }, containers: users, sizeBytes, anonymous: isAnonymous };
}

function assertUnused(containers: Containers, name: string, path: string): void {
  const users = usersOf(containers, path);
  if (users.length === 0) return;
  const names = users.slice(0, 3).map(nameOf).join(', ');
  const more = users.length > 3 ? ` and ${users.length - 3} more` : '';
  throw new BerthError('failed_precondition', `volume ${name} is used by ${names}${more}`, {
    hint: 'remove the containers first',
  });
}
