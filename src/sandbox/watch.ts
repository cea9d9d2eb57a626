import { messageOf } from '../base/errors';
import { whenProcessEnds } from '../process/identity';
import type { Sandbox, Sandboxes } from './sandboxes';

/** A pod whose init has ended takes no container any more, and says so. */
export function watchInit(sandboxes: Sandboxes, sandbox: Sandbox): void {
  const { id, pause } = sandbox.record;
  if (!pause) return;
  whenProcessEnds(pause.pid, pause.pidStartTime, () => {
    if (sandbox.record.state !== 'ready' || sandboxes.find(id) !== sandbox) return;
    sandboxes.log.warn("the init of a pod's PID namespace has ended; the pod is not ready any more", { sandbox: id });
    sandboxes.update(sandbox, { state: 'notready' }).catch((error: unknown) => {
      sandboxes.log.error(`could not record that a pod is not ready: ${messageOf(error)}`, { sandbox: id });
    });
  });
}
