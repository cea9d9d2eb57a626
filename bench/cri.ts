import { status, type ServiceError } from '@grpc/grpc-js';
import { startRegistry } from '../test/support/registry';
import { alternate, machine, median, ms, quantile, table, Timings } from './measure';
import { call, containerConfig, peers, podConfig, pull, pushTask } from './pod';
import { startBerth, type Daemon, type Runtime } from './runtimes';
import { inScratch, roundsOr, type Scratch } from './scratch';

inScratch(async scratch => {
  const rounds = roundsOr(40);
  const registry = await startRegistry();
  const daemons: Daemon[] = [];
  try {
    const image = await pushTask(registry, scratch);
    daemons.push(await startBerth(scratch), ...(await peers(scratch, image)));
    const runtimes = daemons.flatMap(daemon => daemon.runtimes);
    for (const runtime of runtimes) await pull(runtime, image);

    const timings = new Map(runtimes.map(runtime => [runtime, new Timings()]));
    let index = 0;
    await alternate(runtimes, { warmUp: 4, measured: rounds }, async (runtime, isMeasured) => {
      scratch.throwIfInterrupted();
      const of = timings.get(runtime) ?? new Timings();
      of.isMeasuring = isMeasured;
      const begin = performance.now();
      await podLife(scratch, runtime, image, index++, of);
      of.add('sum', performance.now() - begin);
    });
    report(timings, rounds);
  } finally {
    for (const daemon of daemons) await daemon.stop();
    await registry.stop();
  }
}).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

/** One pod with one container, from nothing to nothing. What has begun is removed even when a call fails. */
async function podLife(
  scratch: Scratch,
  runtime: Runtime,
  image: string,
  index: number,
  timings: Timings,
): Promise<void> {
  const { runtime: client, handler } = runtime;
  const pod = podConfig(scratch, index);
  const container = containerConfig(image);
  const { podSandboxId } = await timings.time('RunPodSandbox', () =>
    call(client.runPodSandbox.bind(client), { config: pod, runtimeHandler: handler }),
  );
  try {
    const { containerId } = await timings.time('CreateContainer', () =>
      call(client.createContainer.bind(client), { podSandboxId, config: container, sandboxConfig: pod }),
    );
    await timings.time('StartContainer', () => call(client.startContainer.bind(client), { containerId }));
    const { exitCode } = await timings.time('ExecSync', () =>
      call(client.execSync.bind(client), { containerId, cmd: ['/bin/task'], timeout: 10n }),
    );
    if (exitCode !== 0) throw new Error(`${runtime.name}: the command ended with ${exitCode}`);
    await timings.time('StopContainer', () => call(client.stopContainer.bind(client), { containerId, timeout: 10n }));
    await timings.time('RemoveContainer', () => call(client.removeContainer.bind(client), { containerId }));
    await timings.time('StopPodSandbox', () => call(client.stopPodSandbox.bind(client), { podSandboxId }));
    await timings.time('RemovePodSandbox', () => call(client.removePodSandbox.bind(client), { podSandboxId }));
  } catch (error) {
    await call(client.stopPodSandbox.bind(client), { podSandboxId }).catch(ignoreMissing);
    await call(client.removePodSandbox.bind(client), { podSandboxId }).catch(ignoreMissing);
    throw error;
  }
}

function ignoreMissing(error: unknown): void {
  if ((error as ServiceError).code !== status.NOT_FOUND) console.error(error);
}

function report(timings: ReadonlyMap<Runtime, Timings>, rounds: number): void {
  const all = [...timings].map(([{ name }, of]) => ({ name, of }));
  const [own, ...others] = all;
  if (!own) return;
  const header = ['ms', ...all.flatMap(({ name }) => [name, 'p95']), ...others.map(({ name }) => `${name} ÷ berth`)];
  const rows = own.of
    .names()
    .map(call => [
      call,
      ...all.flatMap(({ of }) => [ms(median(of.of(call))), ms(quantile(of.of(call), 0.95))]),
      ...others.map(({ of }) => (median(of.of(call)) / median(own.of.of(call))).toFixed(1)),
    ]);
  console.log(`\none pod with one container over CRI, medians; ${rounds} rounds; ${machine()}\n`);
  console.log(table(header, rows));
}
