import { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { BerthError, messageOf } from '../base/errors';
import { Stopwatch } from '../base/stopwatch';
import type { Monitor } from '../process/monitor';
import type { Container, Containers } from './containers';
import { isStartFailure, recordStartFailure } from './exits';
import { runPoststart } from './hooks';

/** Its working directory may lie on a file system that does not answer; below the two minutes of a kubelet's patience. */
const START_WITHIN_MS = 100_000;

/** StartContainer: returns once the command runs, or throws why it does not. A running one is fine: the first call's answer was lost. */
export async function startContainer(containers: Containers, ctx: Context, container: Container): Promise<void> {
  await containers.locks.run(container.record.id, async () => {
    const { id, state } = container.record;
    if (state === 'running') return;
    if (state !== 'created' || !container.monitor) {
      throw new BerthError('failed_precondition', `container ${id} is ${state} and cannot be started`, {
        hint: state === 'exited' ? 'create a new one' : 'create it first',
      });
    }
    ctx.stage('start the command');
    const watch = new Stopwatch('StartContainer', ctx.steps);
    const startedAtNs = await started(containers, ctx, container, container.monitor, watch);
    if (container.record.hooks?.poststart) {
      ctx.stage('run poststart hooks');
      await (container.starting = runPoststart(containers, container));
    }
    const timings = { create: [], ...container.record.timings, start: watch.laps };
    // It may have exited meanwhile: that record stands.
    await containers.updateFrom('created', container, { state: 'running', startedAtNs, timings });
    watch.lap('write the record: running');
    crashPoint('start.recorded');
    containers.onStarted(container);
    ctx.log.info('container is started', { container: id });
  });
}

async function started(
  containers: Containers,
  ctx: Context,
  container: Container,
  monitor: Monitor,
  watch: Stopwatch,
): Promise<bigint> {
  const limit = Context.of(containers.log, { timeoutMs: START_WITHIN_MS });
  limit.stage(`start the command of container ${container.record.id}`);
  try {
    const running = monitor.start();
    watch.lap('tell the monitor');
    crashPoint('start.sent');
    const startedAtNs = await limit.race(running);
    watch.lap('wait until the command runs');
    crashPoint('start.running');
    return startedAtNs;
  } catch (error) {
    if (limit.signal.aborted) await monitor.abandon();
    else if (!isStartFailure(error)) throw await endedBefore(ctx, container);
    const runtime = containers.runtimes.of(containers.handlerOf(container));
    const { stateDir } = containers.paths(container.record.id);
    const explained = runtime ? await runtime.explained(error, stateDir) : error;
    await recordStartFailure(containers, container, messageOf(explained));
    throw explained;
  }
}

/** What it has ended with, as `ending` records it: a stop, or a run that nobody has heard the beginning of. */
async function endedBefore(ctx: Context, container: Container): Promise<BerthError> {
  ctx.stage('wait until the end of the container is recorded');
  await ctx.race(container.ending ?? Promise.resolve());
  const { id, exitCode, message } = container.record;
  return new BerthError(
    'failed_precondition',
    `container ${id} ended before it could be started, with ${exitCode}${message === '' ? '' : `: ${message}`}`,
    { hint: 'create a new one' },
  );
}
