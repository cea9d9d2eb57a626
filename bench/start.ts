import { status, type ServiceError } from '@grpc/grpc-js';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TimingRow } from '../src/container/timings';
import { startRegistry } from '../test/support/registry';
import { berth, floor, HELPER_ALONE, makeSetting, peers as ociPeers } from './container';
import type { Lag } from './lag';
import { alternate, machine, median, ms, quantile, table, Timings } from './measure';
import { bytesOf, podProcesses } from './memory';
import { call, containerConfig, peers, podConfig, pull, pushTask } from './pod';
import { startBerth, type Daemon, type Runtime } from './runtimes';
import { inScratch, roundsOr, type Scratch } from './scratch';

const LAG_WITHIN_MS = 10_000;
const PARALLEL = 8;
const MANY = { pods: 100, atOnce: 4 };

/** `node start.js [rounds]`: the table of what a start costs, and where its time goes. */
inScratch(async scratch => {
  const rounds = roundsOr(40);
  const registry = await startRegistry();
  const daemons: Daemon[] = [];
  const lagFile = join(scratch.dir, 'lag');
  try {
    const image = await pushTask(registry, scratch);
    const own = await startBerth(scratch, { preload: require.resolve('./lag'), env: { BERTH_BENCH_LAG: lagFile } });
    daemons.push(own, ...(await peers(scratch, image)));
    const runtimes = daemons.flatMap(daemon => daemon.runtimes);
    for (const runtime of runtimes) await pull(runtime, image);
    console.log(`\n${rounds} rounds; ${machine()}`);

    const steps = new Timings();
    reportCalls(await measureCalls(scratch, runtimes, image, rounds, steps));
    await reportAlone(scratch, rounds);
    for (const daemon of daemons) await reportMemory(scratch, daemon, image, Math.min(20, rounds));
    await reportLag(scratch, own, image, lagFile, rounds);
    for (const runtime of runtimes) await reportMany(scratch, runtime, image, Math.min(MANY.pods, rounds * 4));
    reportSteps(steps);
  } finally {
    for (const daemon of daemons) await daemon.stop();
    await registry.stop();
  }
}).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

interface Pod {
  podSandboxId: string;
  containerId: string;
}

let nextPod = 0;

/** RunPodSandbox, CreateContainer and StartContainer, as the kubelet would ask, on the host's network. */
async function startPod(scratch: Scratch, { runtime, handler }: Runtime, image: string): Promise<Pod> {
  const config = podConfig(scratch, nextPod++);
  const { podSandboxId } = await call(runtime.runPodSandbox.bind(runtime), { config, runtimeHandler: handler });
  const request = { podSandboxId, config: containerConfig(image), sandboxConfig: config };
  const { containerId } = await call(runtime.createContainer.bind(runtime), request);
  await call(runtime.startContainer.bind(runtime), { containerId });
  return { podSandboxId, containerId };
}

async function removePod({ runtime }: Runtime, podSandboxId: string): Promise<void> {
  try {
    await call(runtime.stopPodSandbox.bind(runtime), { podSandboxId });
    await call(runtime.removePodSandbox.bind(runtime), { podSandboxId });
  } catch (error) {
    if ((error as ServiceError).code !== status.NOT_FOUND) throw error;
  }
}

async function measureCalls(
  scratch: Scratch,
  runtimes: readonly Runtime[],
  image: string,
  rounds: number,
  steps: Timings,
): Promise<Map<Runtime, Timings>> {
  const all = new Map(runtimes.map(runtime => [runtime, new Timings()]));
  await alternate(runtimes, { warmUp: 3, measured: rounds }, async (runtime, isMeasured) => {
    scratch.throwIfInterrupted();
    const of = all.get(runtime) ?? new Timings();
    of.isMeasuring = steps.isMeasuring = isMeasured;
    const { runtime: client } = runtime;
    const pod = await of.time('RunPodSandbox + CreateContainer + StartContainer', () =>
      startPod(scratch, runtime, image),
    );
    const { containerId } = pod;
    try {
      const exec = { containerId, cmd: ['/bin/task'], timeout: 10n };
      const { exitCode } = await of.time('ExecSync', () => call(client.execSync.bind(client), exec));
      if (exitCode !== 0) throw new Error(`${runtime.name}: the command ended with ${exitCode}`);
      if (runtime.name === 'berth') await collectSteps(runtime, containerId, steps);
      await of.time('StopContainer + RemoveContainer', async () => {
        await call(client.stopContainer.bind(client), { containerId, timeout: 10n });
        await call(client.removeContainer.bind(client), { containerId });
      });
    } finally {
      await removePod(runtime, pod.podSandboxId);
    }
  });
  return all;
}

/** What `berth inspect --timings` shows of one start. */
async function collectSteps({ runtime }: Runtime, containerId: string, steps: Timings): Promise<void> {
  const { info } = await call(runtime.containerStatus.bind(runtime), { containerId, verbose: true });
  const { timings } = JSON.parse(info['info'] ?? '{}') as { timings: TimingRow[] };
  for (const { call: rpc, by, step, us } of timings) steps.add(`${rpc}|${by}|${withoutIds(step)}`, us / 1000);
}

function withoutIds(step: string): string {
  return step.replace(/[0-9a-f]{64}/g, 'ID').replace(/\/tmp\/\S*\/(containers|sandboxes)\//, '…/$1/');
}

function reportCalls(all: ReadonlyMap<Runtime, Timings>): void {
  const [own, ...others] = [...all].map(([{ name }, of]) => ({ name, of }));
  if (!own) return;
  const columns = [own, ...others];
  const header = [
    'ms, medians',
    ...columns.flatMap(({ name }) => [name, 'p95']),
    ...others.map(o => `berth ÷ ${o.name}`),
  ];
  const rows = own.of.names().map(name => {
    const mine = median(own.of.of(name));
    return [
      name,
      ...columns.flatMap(({ of }) => [ms(median(of.of(name))), ms(quantile(of.of(name), 0.95))]),
      ...others.map(({ of }) => (mine / median(of.of(name))).toFixed(2)),
    ];
  });
  console.log(`\nover CRI, on the host's network:\n\n${table(header, rows)}`);
}

/** Without a daemon's RPC: all namespaces new, and a seccomp filter. */
async function reportAlone(scratch: Scratch, rounds: number): Promise<void> {
  const setting = await makeSetting(scratch, 'own');
  const [totals, parts] = [new Timings(), new Timings()];
  const candidates = [
    berth(scratch, setting, parts),
    floor(scratch, setting),
    ...(await ociPeers(scratch, setting, ['crun'])),
  ];
  let index = 0;
  await alternate(candidates, { warmUp: 3, measured: rounds }, async (candidate, isMeasured) => {
    scratch.throwIfInterrupted();
    totals.isMeasuring = parts.isMeasuring = isMeasured;
    await totals.time(candidate.name, () => candidate.run(index++));
  });
  const least = median(totals.of('floor in C'));
  const whole = candidates.map(({ name, version }) => {
    const of = totals.of(name);
    return [`${name} ${version}`.trim(), ms(median(of)), ms(quantile(of, 0.95)), (median(of) / least).toFixed(2)];
  });
  const ofBerth = parts.names().map(name => {
    const of = parts.of(name);
    const ratio = name === HELPER_ALONE ? (median(of) / least).toFixed(2) : '';
    return [`… ${name}`, ms(median(of)), ms(quantile(of, 0.95)), ratio];
  });
  console.log('\none container from nothing to nothing, new namespaces and seccomp, no daemon:\n');
  console.log(table(['ms', 'median', 'p95', '÷ floor'], [...whole, ...ofBerth]));
}

/** Of all that is there for a pod and is not its workload. */
async function reportMemory(scratch: Scratch, daemon: Daemon, image: string, pods: number): Promise<void> {
  for (const runtime of daemon.runtimes) {
    const before = bytesOf([daemon.pid]);
    const made: Pod[] = [];
    for (let i = 0; i < pods; i++) made.push(await startPod(scratch, runtime, image));
    const processes = podProcesses(daemon, runtime.name === 'berth');
    const [helpers, grown] = [bytesOf(processes), bytesOf([daemon.pid]) - before];
    for (const { podSandboxId } of made) await removePod(runtime, podSandboxId);
    const each = (bytes: number) => `${(bytes / pods / 1e6).toFixed(3)} MB`;
    console.log(
      `\nmemory for an idle pod of one container, ${runtime.name}: ${each(helpers)} PSS of ` +
        `${(processes.length / pods).toFixed(1)} processes; the daemon grew by ${each(grown)}`,
    );
  }
}

async function reportLag(scratch: Scratch, berth: Daemon, image: string, file: string, rounds: number): Promise<void> {
  const [runtime] = berth.runtimes;
  if (!runtime) return;
  const cycle = async () => removePod(runtime, (await startPod(scratch, runtime, image)).podSandboxId);
  await lagOf(berth, file);
  const pods: Pod[] = [];
  for (let i = 0; i < rounds; i++) pods.push(await startPod(scratch, runtime, image));
  const alone = await lagOf(berth, file);
  for (const { podSandboxId } of pods) await removePod(runtime, podSandboxId);
  await lagOf(berth, file);
  for (let i = 0; i < rounds; i += PARALLEL) await Promise.all(Array.from({ length: PARALLEL }, cycle));
  const beside = await lagOf(berth, file);
  const row = (name: string, { worstMs, p99Ms, longestNativeMs }: Lag, each: string[]) => [
    name,
    ms(worstMs),
    ms(p99Ms),
    ms(longestNativeMs),
    ...each,
  ];
  console.log(`\nthe daemon's event loop:\n`);
  console.log(
    table(
      ['', 'worst lag, ms', 'p99', 'longest native call', 'busy for each start, ms', 'of it in native calls'],
      [
        row('starts one after the other', alone, [ms(alone.busyMs / rounds), ms(alone.nativeMs / rounds)]),
        row(`${PARALLEL} starts and removals at once`, beside, ['–', '–']),
      ],
    ),
  );
}

async function lagOf({ pid }: Daemon, file: string): Promise<Lag> {
  rmSync(file, { force: true });
  process.kill(pid, 'SIGUSR2');
  for (const until = Date.now() + LAG_WITHIN_MS; Date.now() < until;) {
    const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
    if (text.endsWith('}')) return JSON.parse(text) as Lag;
    await sleep(2);
  }
  throw new Error(`the daemon ${pid} has not told its lag within ${LAG_WITHIN_MS / 1000} s`);
}

async function reportMany(scratch: Scratch, runtime: Runtime, image: string, pods: number): Promise<void> {
  const ids: string[] = [];
  const begin = performance.now();
  const worker = async () => {
    while (ids.length + MANY.atOnce <= pods) ids.push((await startPod(scratch, runtime, image)).podSandboxId);
  };
  await Promise.all(Array.from({ length: MANY.atOnce }, worker));
  const seconds = (performance.now() - begin) / 1000;
  const rate = (ids.length / seconds).toFixed(1);
  console.log(`\n${ids.length} pods, ${MANY.atOnce} at a time, ${runtime.name}: ${rate} a second`);
  for (const podSandboxId of ids) await removePod(runtime, podSandboxId);
}

function reportSteps(steps: Timings): void {
  console.log('\nwhere the time of one start of berth goes, as `berth inspect --timings` has it; ms:\n');
  const rows = steps.names().map(name => {
    const [rpc = '', by = '', step = ''] = name.split('|');
    return [rpc, by, step, ms(median(steps.of(name))), ms(quantile(steps.of(name), 0.95))];
  });
  console.log(table(['call', 'by', 'step', 'median', 'p95'], rows));
}
