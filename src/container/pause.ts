import { anySignal } from '../base/any-signal';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import { heldProcesses, heldText } from '../process/held';
import type { Container, Containers } from './containers';
import { tell } from './tell';

/** A process that waits in the kernel (state D) is held still when it comes out of it. */
const PAUSE_WITHIN_MS = 10_000;

/** Holds all processes of a running container still. Once it returns, none of them runs; what fails leaves them running. */
export async function pauseContainer(containers: Containers, ctx: Context, container: Container): Promise<void> {
  const { id, name, cgroupPath } = container.record;
  const { cgroups } = containers;
  await containers.locks.run(id, async () => {
    assertRunning(container, 'paused');
    if (cgroups.isPaused(cgroupPath))
      throw new BerthError('failed_precondition', `container ${name ?? id} is paused already`);
    ctx.stage('wait until all processes of the container hold still');
    const isStill = await cgroups.pause(cgroupPath, anySignal([ctx.signal, AbortSignal.timeout(PAUSE_WITHIN_MS)]));
    if (isStill) return tell(containers, container, 'pause');
    if (isStill === undefined) throw new BerthError('failed_precondition', 'this host has no cgroup freezer');
    ctx.throwIfEnded();
    assertRunning(container, 'paused');
    const held = heldText(heldProcesses(cgroups.processes(cgroupPath)));
    throw new BerthError(
      'deadline_exceeded',
      `container ${name ?? id} could not be paused within ${PAUSE_WITHIN_MS / 1000} s and goes on: ${held}`,
    );
  });
}

export async function unpauseContainer(containers: Containers, container: Container): Promise<void> {
  const { id, name, cgroupPath } = container.record;
  await containers.locks.run(id, async () => {
    assertRunning(container, 'unpaused');
    if (!containers.cgroups.isPaused(cgroupPath))
      throw new BerthError('failed_precondition', `container ${name ?? id} is not paused`);
    await containers.cgroups.unpause(cgroupPath);
    tell(containers, container, 'unpause');
  });
}

export function isPaused({ cgroups }: Containers, { record }: Container): boolean {
  return record.state === 'running' && cgroups.isPaused(record.cgroupPath);
}

/** A frozen process takes no signal but SIGKILL, and on v1 not even that. */
export async function letGo(containers: Containers, container: Container): Promise<void> {
  if (isPaused(containers, container)) await containers.cgroups.unpause(container.record.cgroupPath);
}

function assertRunning({ record }: Container, what: string): void {
  if (record.state === 'running') return;
  throw new BerthError(
    'failed_precondition',
    `container ${record.name ?? record.id} is ${record.state}: only a running one can be ${what}`,
  );
}
