import type { Context } from '../base/context';
import type { Container, Containers } from '../container/containers';
import { containerByName } from '../container/find';
import type { Names } from '../container/names';
import { pauseContainer, unpauseContainer } from '../container/pause';
import { relaunchContainer } from '../container/relaunch';
import { startContainer } from '../container/start';
import { tell } from '../container/tell';
import type { ContainersServer } from '../cri/generated/berth/v1/containers';
import { nameOf, noteStopped, stopForPerson } from './berth-containers';
import type { BerthParts } from './berth-service';
import { unary } from './handler';
import { BerthError } from '../base/errors';

/** The RPCs that bring containers from one state into another, beside Start and Stop. */
export function lifeRpcs({ log, containers }: BerthParts, names: Names) {
  const named = (text: string) => containerByName(containers, text);
  return {
    prepare: unary(log, 'Prepare', async ({ container }) => {
      await relaunchContainer(containers, named(container));
      return {};
    }),
    restart: unary(log, 'Restart', async ({ container, timeoutSeconds }, ctx) => {
      await restart(containers, ctx, named(container), timeoutSeconds);
      return {};
    }),
    rename: unary(log, 'Rename', async ({ container, name }) => {
      await rename(containers, names, named(container), name);
      return {};
    }),
    pause: unary(log, 'Pause', async ({ container }, ctx) => {
      await pauseContainer(containers, ctx, named(container));
      return {};
    }),
    unpause: unary(log, 'Unpause', async ({ container }) => {
      await unpauseContainer(containers, named(container));
      return {};
    }),
  } satisfies Partial<ContainersServer>;
}

async function restart(
  containers: Containers,
  ctx: Context,
  container: Container,
  timeoutSeconds: bigint | undefined,
): Promise<void> {
  if (container.record.owner !== 'person') {
    throw new BerthError('failed_precondition', `container ${nameOf(container)} is the kubelet's`, {
      hint: 'stop it, and the kubelet makes a new one',
    });
  }
  await stopForPerson(containers, ctx, container, timeoutSeconds);
  await relaunchContainer(containers, container);
  await noteStopped(containers, container, false);
  await startContainer(containers, ctx, container);
  tell(containers, container, 'restart');
}

async function rename(containers: Containers, names: Names, container: Container, name: string): Promise<void> {
  if (container.record.owner !== 'person') {
    throw new BerthError('failed_precondition', `container ${nameOf(container)} is the kubelet's, and keeps its name`);
  }
  if (name === '') throw new BerthError('invalid_argument', 'the new name is empty');
  if (name === container.record.name) {
    throw new BerthError('invalid_argument', `container ${name} has that name already`);
  }
  using _reserved = names.reserve(name);
  const oldName = nameOf(container);
  await containers.update(container, { name });
  tell(containers, container, 'rename', { oldName });
}
