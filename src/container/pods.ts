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
  const { id } = container.record;
  containers.holds
    .free(id)
    .then(() => removeForPerson(containers, Context.of(containers.log), container))
    .catch((error: unknown) => {
      containers.log.error(`could not remove a container that has exited: ${messageOf(error)}`, { container: id });
    });
}
