import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../base/errors';
import type { Container, Containers } from './containers';

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 60_000;

/**
 * Removes the cgroup of a container that has exited. The kernel may call it busy for as long as a process in it does not
 * die (state D): then it is asked again in the background, ever less often, until the cgroup is gone, or the container is
 * removed or made ready again. Never throws.
 */
export async function removeOldCgroup(containers: Containers, container: Container): Promise<void> {
  const { id, cgroupPath } = container.record;
  try {
    await containers.cgroups.remove(cgroupPath);
  } catch (error) {
    containers.log.warn(`will be tried again: ${messageOf(error)}`, { container: id });
    void tryAgain(containers, container);
  }
}

/** With its lock, so that what a removal ends is never what has been started in the cgroup since. */
export async function removeIfExited(containers: Containers, container: Container): Promise<void> {
  await containers.locks.run(container.record.id, async () => {
    if (isOver(containers, container)) await removeOldCgroup(containers, container);
  });
}

async function tryAgain(containers: Containers, container: Container): Promise<void> {
  const { id, cgroupPath } = container.record;
  for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS)) {
    await sleep(waitMs, undefined, { ref: false });
    const isDone = await containers.locks.run(id, async () => {
      if (!isOver(containers, container)) return true;
      return containers.cgroups.remove(cgroupPath).then(
        () => true,
        () => false,
      );
    });
    if (isDone) return;
  }
}

function isOver(containers: Containers, container: Container): boolean {
  return container.record.state === 'exited' && containers.find(container.record.id) === container;
}
