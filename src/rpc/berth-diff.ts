import { containerDiff, type FileChange } from '../container/diff';
import { containerByName } from '../container/find';
import { FileChange_Kind as Kind, type ContainersServer } from '../cri/generated/berth/v1/containers';
import type { BerthParts } from './berth-service';
import { unary } from './handler';

export function diffRpc({ log, containers }: BerthParts) {
  return {
    diff: unary(log, 'Diff', async ({ container }, ctx) => {
      const changes = await containerDiff(containers, ctx, containerByName(containers, container));
      return { changes: changes.map(({ kind, path }) => ({ kind: KINDS[kind], path })) };
    }),
  } satisfies Partial<ContainersServer>;
}

const KINDS: Readonly<Record<FileChange['kind'], Kind>> = {
  changed: Kind.CHANGED,
  added: Kind.ADDED,
  deleted: Kind.DELETED,
};
