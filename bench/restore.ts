import { ContainerState } from '../src/cri';
import { startRegistry } from '../test/support/registry';
import { machine, ms, table } from './measure';
import { call, containerConfig, podConfig, pull, pushTask } from './pod';
import { startBerth, type Daemon, type Runtime } from './runtimes';
import { inScratch, roundsOr, type Scratch } from './scratch';

/** How many pods are made at a time. */
const AT_ONCE = 4;

/** `node restore.js [containers]`: so many running containers, then kill -9, then how long the next daemon takes to know them. */
inScratch(async scratch => {
  const wanted = roundsOr(500);
  const registry = await startRegistry();
  let daemon: Daemon | undefined;
  try {
    daemon = await startBerth(scratch);
    const image = await pushTask(registry, scratch);
    const [runtime] = daemon.runtimes;
    if (!runtime) throw new Error('no runtime');
    await pull(runtime, image);
    for (let next = 0; next < wanted; next += AT_ONCE) {
      scratch.throwIfInterrupted();
      const some = Array.from({ length: Math.min(AT_ONCE, wanted - next) }, (_, i) => next + i);
      await Promise.all(some.map(index => runPod(scratch, runtime, image, index)));
    }
    await daemon.kill();
    const from = performance.now();
    daemon = await startBerth(scratch);
    const untilAnswering = performance.now() - from;
    const [again] = daemon.runtimes;
    if (!again) throw new Error('no runtime');
    const { containers } = await call(again.runtime.listContainers.bind(again.runtime), { filter: undefined });
    const running = containers.filter(({ state }) => state === ContainerState.CONTAINER_RUNNING).length;
    if (running !== wanted) throw new Error(`${running} of ${wanted} containers run after the restart`);
    const restored = / restored what was there.*\bms=(\d+)/.exec(daemon.log())?.[1] ?? 'unknown';
    console.log(`\nkill -9 and restart with ${wanted} running containers in as many pods; ${machine()}\n`);
    const rows = [
      ['records believed, monitors met', restored],
      ['from exec of the daemon to its first answer', ms(untilAnswering)],
    ];
    console.log(table(['ms', ''], rows));
    await Promise.all(containers.map(({ podSandboxId }) => removePod(again, podSandboxId)));
  } finally {
    await daemon?.stop();
    await registry.stop();
  }
}).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

async function runPod(scratch: Scratch, { runtime, handler }: Runtime, image: string, index: number): Promise<void> {
  const config = podConfig(scratch, index);
  const { podSandboxId } = await call(runtime.runPodSandbox.bind(runtime), { config, runtimeHandler: handler });
  const request = { podSandboxId, config: containerConfig(image), sandboxConfig: config };
  const { containerId } = await call(runtime.createContainer.bind(runtime), request);
  await call(runtime.startContainer.bind(runtime), { containerId });
}

async function removePod({ runtime }: Runtime, podSandboxId: string): Promise<void> {
  await call(runtime.removePodSandbox.bind(runtime), { podSandboxId });
}
