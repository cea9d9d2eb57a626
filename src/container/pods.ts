import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { messageOf } from '../base/errors';
import { removeSandbox } from '../sandbox/remove';
import type { Sandbox } from '../sandbox/sandboxes';
import { closeSandbox, stopSandbox } from '../sandbox/stop';
import type { Container, Containers } from './containers';
import { removeContainer } from './remove';
import { stopContainer } from './stop';

/** StopPodSandbox: ends its containers, then takes the sandbox itself down. Idempotent. */
export async function stopPod(containers: Containers, ctx: Context, sandbox: Sandbox): Promise<void> {
  await close(containers, ctx, sandbox);
  const running = containers.ofSandbox(sandbox.record.id);
  await Promise.all(running.map(container => stopContainer(containers, ctx, container, 0)));
  crashPoint('stop-pod.containers-stopped');
  await stopSandbox(containers.sandboxes, ctx, sandbox);
}

/** RemovePodSandbox: removes its containers, by force, then the sandbox itself. Idempotent. */
export async function removePod(containers: Containers, ctx: Context, sandbox: Sandbox): Promise<void> {
  await close(containers, ctx, sandbox);
  const all = containers.ofSandbox(sandbox.record.id);
  await Promise.all(all.map(container => removeContainer(containers, ctx, container)));
  crashPoint('rm-pod.containers-removed');
  await removeSandbox(containers.sandboxes, ctx, sandbox);
}

/** No new container, and none half made: what there is now is all there will be. */
async function close(containers: Containers, ctx: Context, sandbox: Sandbox): Promise<void> {
  await closeSandbox(containers.sandboxes, sandbox);
  ctx.stage('wait for containers that are being created');
  await ctx.race(containers.creates.idle(`${sandbox.record.id}/`));
}

/** Removes a container for a person. One that a person made goes with its pod, which is there for it alone. */
export async function removeForPerson(containers: Containers, ctx: Context, container: Container): Promise<void> {
  const { owner, sandboxId } = container.record;
  const sandbox = owner === 'person' ? containers.sandboxes.find(sandboxId) : undefined;
  if (sandbox) await removePod(containers, ctx, sandbox);
  else await removeContainer(containers, ctx, container);
}

/** The end of a container with `autoRemove`, in the background: nobody who waits for it, or reads its log, loses it. */
export function removeOnceUnheld(containers: Containers, container: Container): void {
  void removeUntilGone(containers, container);
}

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 60_000;

/** Nobody asks a second time for what goes by itself: what does not go (a process in state D) is tried again until it does. */
async function removeUntilGone(containers: Containers, container: Container): Promise<void> {
  const { id } = container.record;
  await containers.holds.free(id);
  for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS)) {
    try {
      return await removeForPerson(containers, Context.of(containers.log), container);
    } catch (error) {
      containers.log.error(`could not remove a container that has exited, trying again: ${messageOf(error)}`, {
        container: id,
      });
    }
    await sleep(waitMs, undefined, { ref: false });
  }
}
