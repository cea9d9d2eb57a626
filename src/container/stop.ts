import { anySignal } from '../base/any-signal';
import type { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { BerthError } from '../base/errors';
import { signalName } from '../oci/signals';
import { heldProcesses, heldText } from '../process/held';
import { signalProcess } from '../process/identity';
import type { Container, Containers } from './containers';
import { tell } from './tell';

const SIGKILL = 9;

/** A killed process is gone at once, unless the kernel holds it (state D): then this is how long it is waited for. */
const KILL_WITHIN_MS = 60_000;

/** The same of what a container has left that has ended itself: whoever removes it may ask again. */
const LEFT_WITHIN_MS = 10_000;

/** After this long it is said who does not end, and what it waits for. */
const SOON_MS = 2000;

/**
 * StopContainer: the stop signal, up to `timeoutSeconds` of patience (0: kill
 * now), then SIGKILL. Returns when the container has exited and no process is
 * left of it. Idempotent, and several calls may run at once: the shortest patience wins.
 */
export async function stopContainer(
  containers: Containers,
  ctx: Context,
  container: Container,
  timeoutSeconds: number,
): Promise<void> {
  await onceMade(containers, ctx, container);
  const { id, state, stopSignal } = container.record;
  if (containers.find(id) !== container) return;
  const endsWithin = async (ms: number) => {
    const signal = anySignal([AbortSignal.timeout(ms), ctx.signal]);
    return (
      (await containers.exitOf(container, signal)) && containers.cgroups.emptied(container.record.cgroupPath, signal)
    );
  };
  // What it has left in a PID namespace that is not its own may be ending yet.
  if (state === 'exited' && (await endsWithin(0))) return;
  if (timeoutSeconds > 0 && state === 'running') {
    ctx.stage(`wait ${timeoutSeconds} s for the container to end on ${signalName(stopSignal)}`);
    ctx.allow(timeoutSeconds * 1000);
    signalContainer(containers, container, stopSignal);
    crashPoint('stop.signalled');
    if (await endsWithin(timeoutSeconds * 1000)) return;
    ctx.throwIfEnded();
    ctx.log.info(`the container did not end on ${signalName(stopSignal)} and is killed`, {
      container: id,
      timeoutSeconds,
    });
  }
  ctx.stage('wait for the killed container to end');
  const { kills } = containers.cgroups.oomEvents(container.record.cgroupPath);
  // One that is dead already was not killed by this.
  if (signalContainer(containers, container, SIGKILL)) container.oomKillsBeforeKill ??= kills;
  // Also what it started: in a PID namespace that is not its own that lives on, and can hold its monitor up.
  await containers.cgroups.kill(container.record.cgroupPath);
  crashPoint('stop.killed');
  if (await endsWithin(SOON_MS)) return;
  ctx.throwIfEnded();
  ctx.stage(tellWhatHolds(containers, ctx, container));
  const withinMs = state === 'exited' ? LEFT_WITHIN_MS : KILL_WITHIN_MS;
  if (await endsWithin(withinMs - SOON_MS)) return;
  ctx.throwIfEnded();
  const killed = state === 'exited' ? `what container ${id} has left` : `container ${id}`;
  throw new BerthError(
    'deadline_exceeded',
    `${killed} was killed ${withinMs / 1000} s ago: ${whatHolds(containers, container)}`,
    { hint: 'it ends when the kernel lets go of it' },
  );
}

/** A container that is being created is stopped once it has been. */
async function onceMade(containers: Containers, ctx: Context, { record }: Container): Promise<void> {
  if (record.state !== 'creating') return;
  ctx.stage('wait for the container to be created');
  await ctx.race(containers.creates.idle(`${record.sandboxId}/`));
}

function tellWhatHolds(containers: Containers, ctx: Context, container: Container): string {
  const held = whatHolds(containers, container);
  ctx.log.warn(`the killed container does not end: ${held}`, { container: container.record.id });
  return `wait for the killed container to end: ${held}`;
}

function whatHolds({ cgroups }: Containers, { record }: Container): string {
  const { process, cgroupPath } = record;
  const pids = new Set([...(process ? [process.pid] : []), ...cgroups.processes(cgroupPath)]);
  return heldText(heldProcesses([...pids]));
}

/** Sends a signal to the container's first process, and tells of it; false when there is none any more. */
export function signalContainer(containers: Containers, container: Container, signal: number): boolean {
  const { process, state } = container.record;
  if (state === 'exited' || !process) return false;
  if (!signalProcess(process.pid, process.pidStartTime, signal)) return false;
  tell(containers, container, 'kill', { signal: String(signal) });
  return true;
}
