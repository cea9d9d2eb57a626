import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import { signalName } from '../oci/signals';
import { signalProcess } from '../process/identity';
import type { Container, Containers } from './containers';

const SIGKILL = 9;

/** A killed process is gone at once, unless the kernel holds it (state D): then this is how long it is waited for. */
const KILL_WITHIN_MS = 60_000;

/**
 * StopContainer: the stop signal, up to `timeoutSeconds` of patience (0: kill
 * now), then SIGKILL. Returns when the container has exited. Idempotent, and
 * several calls may run at once: the shortest patience wins.
 */
export async function stopContainer(
  containers: Containers,
  ctx: Context,
  container: Container,
  timeoutSeconds: number,
): Promise<void> {
  const { id, state, stopSignal } = container.record;
  if (state === 'exited' || state === 'creating') return;
  const endsWithin = (ms: number) =>
    containers.exitOf(container, AbortSignal.any([AbortSignal.timeout(ms), ctx.signal]));
  if (timeoutSeconds > 0 && state === 'running') {
    ctx.stage(`wait ${timeoutSeconds} s for the container to end on ${signalName(stopSignal)}`);
    signalContainer(container, stopSignal);
    if (await endsWithin(timeoutSeconds * 1000)) return;
    ctx.throwIfEnded();
    ctx.log.info(`the container did not end on ${signalName(stopSignal)} and is killed`, {
      container: id,
      timeoutSeconds,
    });
  }
  ctx.stage('wait for the killed container to end');
  signalContainer(container, SIGKILL);
  // Also what it started: in a PID namespace that is not its own that lives on, and can hold its monitor up.
  await containers.cgroups.kill(container.record.cgroupPath);
  if (await endsWithin(KILL_WITHIN_MS)) return;
  ctx.throwIfEnded();
  throw new BerthError(
    'deadline_exceeded',
    `container ${id} was killed and does not end after ${KILL_WITHIN_MS / 1000} s`,
    {
      hint: `look for a process in state D in cgroup ${container.record.cgroupPath}`,
    },
  );
}

/** Sends a signal to the container's first process; false when there is none any more. */
export function signalContainer(container: Container, signal: number): boolean {
  const { process, state } = container.record;
  if (state === 'exited' || !process) return false;
  return signalProcess(process.pid, process.pidStartTime, signal);
}
