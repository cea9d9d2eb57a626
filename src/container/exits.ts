import { setTimeout as sleep } from 'node:timers/promises';
import { crashPoint } from '../base/crash-points';
import { messageOf } from '../base/errors';
import { whenProcessEnds } from '../process/identity';
import { LaunchError } from '../process/launch-failure';
import { readMonitorRecord, type Exit, type Monitor } from '../process/monitor';
import type { Container, ContainerRecord, Containers } from './containers';
import { endReason, type OomOf } from './end-reason';
import { runPoststop } from './hooks';
import { removeOldCgroup } from './old-cgroup';
import { removeOnceUnheld } from './pods';

/**
 * Keeps a container's record true from now to its exit, which may come at any
 * time: right after the start, too, whose own record is written first then.
 */
export function followToExit(containers: Containers, container: Container, monitor: Monitor): void {
  const { id } = container.record;
  const log = containers.log.with({ container: id });
  monitor.watchDropped(({ bytes, why }) => containers.logDrops.note(id, bytes, why));
  monitor.watchOrphans(({ commands, lostBytes }) =>
    log.warn(`commands of an earlier daemon's have ended: ${lostBytes} bytes of their output are lost`, { commands }),
  );
  const leftAreEnded = endWhatIsLeft(containers, container);
  container.ending = monitor.exited
    .then(
      async exit => {
        await leftAreEnded;
        await recordExit(containers, container, exit, monitor.startedAtNs);
      },
      (error: unknown) => recordEndWithoutExit(containers, container, error),
    )
    .catch((error: unknown) => log.error(`could not record the container's exit: ${messageOf(error)}`));
}

/**
 * Ends what a container's first process leaves, in a PID namespace that is not its own. The monitor does so by cgroup.kill; where
 * there is none it can only wait for the end of their output, and gives up after a while.
 */
async function endWhatIsLeft(containers: Containers, { record }: Container): Promise<void> {
  const { cgroups, log } = containers;
  const { process } = record;
  if (cgroups.hasKillFile || !process) return;
  await new Promise<void>(resolve => whenProcessEnds(process.pid, process.pidStartTime, resolve));
  await cgroups.kill(record.cgroupPath).catch((error: unknown) => {
    log.warn(`what the container has left may go on: ${messageOf(error)}`, { container: record.id });
  });
}

/** The container's process has ended: how, and whether the kernel killed it for want of memory. */
export async function recordExit(
  containers: Containers,
  container: Container,
  exit: Exit,
  startedAtNs: bigint | undefined,
): Promise<void> {
  const { record } = container;
  containers.logDrops.note(record.id, exit.droppedBytes);
  const limitBytes = container.config.linux?.resources?.memoryLimitInBytes ?? 0n;
  await finish(containers, container, {
    // An exit may be heard of before the start has been recorded.
    ...(startedAtNs === undefined ? {} : { startedAtNs }),
    exitCode: exit.exitCode,
    ...(exit.signal === 0 ? {} : { signal: exit.signal }),
    finishedAtNs: exit.finishedAtNs,
    // Read before the cgroup goes: afterwards nobody can tell.
    ...endReason(exit, oomOf(containers, record.cgroupPath), container.oomKillsBeforeKill ?? 0n, limitBytes),
  });
}

function oomOf({ cgroups }: Containers, cgroupPath: string): OomOf {
  return {
    events: () => cgroups.oomEvents(cgroupPath),
    limitReachedAbove: () => {
      const above = cgroups.limitReachedAbove(cgroupPath);
      return above === cgroups.podPath(cgroupPath) ? 'pod' : above;
    },
  };
}

/** The command could not be started; what the kubelet shows is the message. */
export async function recordStartFailure(containers: Containers, container: Container, message: string): Promise<void> {
  await finish(containers, container, {
    exitCode: 128,
    finishedAtNs: BigInt(Date.now()) * 1_000_000n,
    reason: 'StartError',
    message,
  });
}

/** The monitor is gone without an exit record: nobody knows the exit code. */
export async function recordLoss(containers: Containers, container: Container, message: string): Promise<void> {
  await finish(containers, container, {
    exitCode: 255,
    finishedAtNs: BigInt(Date.now()) * 1_000_000n,
    reason: 'Unknown',
    message,
  });
}

/** The monitor told of no exit: the command never ran, or the word was lost and its record has it, or nobody knows. */
async function recordEndWithoutExit(containers: Containers, container: Container, error: unknown): Promise<void> {
  const left = await readMonitorRecord(containers.paths(container.record.id).stateDir);
  if (left.kind === 'exited') return recordExit(containers, container, left.exit, left.startedAtNs);
  await endUnwatched(containers, container);
  await recordFailure(containers, container, left.kind === 'failed' ? left.error : error);
}

/** A monitor that was killed has left its container running: nothing of it may run when it is said to have exited. */
async function endUnwatched({ cgroups, log }: Containers, { record: { id, cgroupPath } }: Container): Promise<void> {
  try {
    await cgroups.kill(cgroupPath);
    await cgroups.emptied(cgroupPath, AbortSignal.timeout(EMPTY_WITHIN_MS));
  } catch (error) {
    log.warn(`could not end what a container's monitor has left, trying again: ${messageOf(error)}`, { container: id });
  }
}

/** There was no run to tell the end of: the command could not be started, or it was stopped before, or nobody knows. */
export async function recordFailure(containers: Containers, container: Container, error: unknown): Promise<void> {
  if (isStartFailure(error)) {
    await recordStartFailure(containers, container, messageOf(error));
  } else if (container.record.state === 'created') {
    await finish(containers, container, {
      exitCode: 128 + SIGKILL,
      finishedAtNs: BigInt(Date.now()) * 1_000_000n,
      reason: 'Error',
      message: 'it was stopped before it was started',
    });
  } else {
    await recordLoss(containers, container, messageOf(error));
  }
}

const SIGKILL = 9;

/** Killed processes are gone at once, unless the kernel holds them. */
const EMPTY_WITHIN_MS = 2000;

/** What the monitor says of an init that ended before it was told to go on. */
const KILLED_BEFORE_START = 'ECHILD';

/** True when a step of the launch failed, and so the command; false when the container ended, or its monitor. */
export function isStartFailure(error: unknown): error is LaunchError {
  return error instanceof LaunchError && error.errno !== KILLED_BEFORE_START;
}

async function finish(containers: Containers, container: Container, end: Partial<ContainerRecord>): Promise<void> {
  const { id, state } = container.record;
  if (state === 'exited' || containers.find(id) !== container) return;
  crashPoint('exit.heard');
  const isFirst = await recorded(containers, container, { ...end, state: 'exited' });
  crashPoint('exit.recorded');
  container.monitor = undefined;
  if (!isFirst) return;
  containers.log.info('container has exited', { container: id, exitCode: end.exitCode, reason: end.reason });
  await removeOldCgroup(containers, container);
  crashPoint('exit.cgroup-removed');
  // Whoever removes it or makes it ready again waits for them.
  void runPoststop(containers, container);
  if (container.record.autoRemove) removeOnceUnheld(containers, container);
  containers.onExited(container);
}

/** An exit happens once: when it cannot be written down (a full disk), that is tried again until it can. */
async function recorded(containers: Containers, container: Container, end: Partial<ContainerRecord>): Promise<boolean> {
  for (let waitMs = 100; ; waitMs = Math.min(waitMs * 2, 10_000)) {
    try {
      return await containers.updateUnless('exited', container, end);
    } catch (error) {
      containers.log.error(`could not record the container's exit, trying again: ${messageOf(error)}`, {
        container: container.record.id,
      });
      await sleep(waitMs, undefined, { ref: false });
    }
  }
}
