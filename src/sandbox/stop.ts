import type { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { BerthError } from '../base/errors';
import { isHelperFor, signalProcess } from '../process/identity';
import { detachNetwork } from './network';
import { unpin } from './run';
import type { Sandbox, Sandboxes } from './sandboxes';

/** The first step of a stop: the sandbox takes no new container from here on, and none that is being made. Idempotent. */
export async function closeSandbox(sandboxes: Sandboxes, sandbox: Sandbox): Promise<void> {
  sandbox.closing.abort(new BerthError('aborted', `pod sandbox ${sandbox.record.id} was stopped`));
  await sandboxes.locks.run(sandbox.record.id, async () => {
    if (sandbox.record.state === 'ready') await sandboxes.update(sandbox, { state: 'notready' });
    crashPoint('stop-pod.closed');
  });
}

/**
 * StopPodSandbox, the sandbox's part: its containers have been stopped. Ends the
 * pod's init and takes its namespaces down. Idempotent.
 */
export async function stopSandbox(sandboxes: Sandboxes, ctx: Context, sandbox: Sandbox): Promise<void> {
  await sandboxes.locks.run(sandbox.record.id, async () => {
    const { id, pause, state } = sandbox.record;
    ctx.stage("take the pod's network and namespaces down");
    // Written first: the end of the pod's init is no surprise then.
    if (state !== 'notready') await sandboxes.update(sandbox, { state: 'notready' });
    // After a reboot, whose clock begins anew, its number and start time may be those of another process.
    if (pause && isHelperFor(pause.pid, id)) signalProcess(pause.pid, pause.pidStartTime, 9);
    crashPoint('stop-pod.init-ended');
    await detachNetwork(sandboxes, ctx.log, sandbox);
    crashPoint('stop-pod.network-detached');
    await unpin(sandboxes.paths(id));
    crashPoint('stop-pod.unpinned');
  });
}
