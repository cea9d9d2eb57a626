import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { createLogger } from '../src/base/log';
import type { ContainerId, SandboxId } from '../src/base/ids';
import type { ContainerRecord } from '../src/container/containers';
import { ContainerConfig, PodSandboxConfig } from '../src/cri';
import { installDir } from '../src/native/paths';
import type { SandboxRecord } from '../src/sandbox/sandboxes';
import { openStore } from '../src/store/store';
import { startRegistry } from '../test/support/registry';
import { drawCurves, type Curve } from './curves';
import { alternate, machine, median, ms, quantile, table, Timings } from './measure';
import { bytesOf, podProcesses } from './memory';
import { call, containerConfig, peers, podConfig, pull, pushTask } from './pod';
import { cpuSecondsIn } from './process-cost';
import { rawCall, type Listing } from './raw-call';
import { processText } from './process-text';
import { startBerth, type Daemon, type Runtime } from './runtimes';
import { inScratch, roundsOr, type Scratch } from './scratch';

/** How many pods there are at each point of the curve. */
const STEPS = [10, 25, 50, 100, 200, 300, 400, 500];
/** How many pods are made at a time. */
const AT_ONCE = 4;
const WARM_UP = 3;
/** How long the cost of idle pods is watched. */
const IDLE_SECONDS = 20;
/** V8 gives back what a burst of starts has left when nothing has happened for a while, and so does Go. */
const REST_MS = 30_000;
const SYNTHETIC = 5000;
const VERSION_TURNS = 5;
const LISTINGS: readonly Listing[] = ['ListContainers', 'ListPodSandbox', 'ListContainerStats', 'ListPodSandboxStats'];

/** A daemon that is measured. */
interface Candidate {
  name: string;
  daemon: Daemon;
  runtime: Runtime;
  isBerth: boolean;
}

/** What was measured with so many pods. */
interface Point {
  pods: number;
  timings: Timings;
  /** Resident set of the daemon. */
  daemonBytes: number;
  /** All that the daemon has started for its pods and is not their workload, as proportional set size. */
  helperBytes: number;
  /** Of one pod with its container, from nothing to running, four at a time. */
  startMs: number;
}

/** `node list.js [rounds] [pods]`: what lists, stats and idle pods cost, from 10 pods to as many as are asked for. */
inScratch(async scratch => {
  const rounds = roundsOr(20);
  const steps = stepsUpTo(Number(process.argv[3] ?? STEPS.at(-1)));
  const registry = await startRegistry();
  const daemons: Daemon[] = [];
  let candidates: Candidate[] = [];
  try {
    const image = await pushTask(registry, scratch);
    daemons.push(await startBerth(scratch), ...(await peers(scratch, image)));
    candidates = daemons.flatMap(candidateOf);
    await sleep(5000); // what a start leaves behind is no daemon's size
    const points = new Map(candidates.map(candidate => [candidate, [pointWithout(candidate)]]));
    for (const { runtime } of candidates) await pull(runtime, image);
    console.log(`\n${rounds} rounds, one container a pod, on the host's network; ${machine()}`);

    for (const pods of steps) {
      for (const candidate of candidates) {
        scratch.throwIfInterrupted();
        const startMs = await growTo(scratch, candidate, image, pods);
        points.get(candidate)?.push({ ...pointWithout(candidate), pods, startMs });
      }
      await measureLists(scratch, candidates, points, rounds);
      await sleep(REST_MS);
      for (const candidate of candidates) Object.assign(points.get(candidate)?.at(-1) ?? {}, memoryOf(candidate));
      if (pods === 100 || pods === steps.at(-1)) await reportIdle(candidates, pods);
    }
    reportPoints(points);
    drawPoints(points);
    await reportVersions(scratch, candidates, steps.at(-1) ?? 0);
    // Hundreds of a peer's idle shims take a twelfth of two processors.
    const [own, ...others] = candidates;
    for (const candidate of others) await removeAll(candidate);
    if (own && others.length > 0) {
      await sleep(REST_MS); // the kernel goes on removing their cgroups
      await reportVersions(scratch, [own], steps.at(-1) ?? 0);
    }
  } finally {
    for (const candidate of candidates) await removeAll(candidate).catch(console.error);
    for (const daemon of daemons) await daemon.stop();
    await registry.stop();
  }
  // A thousand pods of others beside it are no part of what it costs.
  await reportSynthetic(scratch, rounds);
}).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

function stepsUpTo(largest: number): number[] {
  if (!Number.isInteger(largest) || largest < 1) throw new Error(`${process.argv[3]} is no number of pods`);
  return [...STEPS.filter(step => step < largest), largest];
}

function candidateOf(daemon: Daemon, index: number): Candidate[] {
  const [runtime] = daemon.runtimes;
  return runtime ? [{ name: runtime.name, daemon, runtime, isBerth: index === 0 }] : [];
}

/** The memory as it is now; the rest comes later. */
function pointWithout(candidate: Candidate): Point {
  return { pods: 0, timings: new Timings(), ...memoryOf(candidate), startMs: NaN };
}

function memoryOf({ daemon, isBerth }: Candidate): Pick<Point, 'daemonBytes' | 'helperBytes'> {
  return { daemonBytes: residentBytes(daemon.pid), helperBytes: bytesOf(podProcesses(daemon, isBerth)) };
}

function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(processText(pid, 'status'))?.[1] ?? 0) * 1024;
}

const made = new Map<Candidate, number>();

/** Milliseconds for each pod. */
async function growTo(scratch: Scratch, candidate: Candidate, image: string, pods: number): Promise<number> {
  const have = made.get(candidate) ?? 0;
  const begin = performance.now();
  for (let next = have; next < pods; next += AT_ONCE) {
    const some = Array.from({ length: Math.min(AT_ONCE, pods - next) }, (_, i) => next + i);
    await Promise.all(some.map(index => runPod(scratch, candidate, image, index)));
  }
  made.set(candidate, pods);
  return (performance.now() - begin) / (pods - have);
}

async function runPod(
  scratch: Scratch,
  { name, runtime: { runtime, handler } }: Candidate,
  image: string,
  index: number,
) {
  const config = kubeletPod(scratch, name, index);
  const { podSandboxId } = await call(runtime.runPodSandbox.bind(runtime), { config, runtimeHandler: handler });
  const request = { podSandboxId, config: kubeletContainer(image, index), sandboxConfig: config };
  const { containerId } = await call(runtime.createContainer.bind(runtime), request);
  await call(runtime.startContainer.bind(runtime), { containerId });
}

/** With a cgroup of its own and the labels that the kubelet gives. */
function kubeletPod(scratch: Scratch, owner: string, index: number): PodSandboxConfig {
  const config = podConfig(scratch, index);
  const uid = `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`;
  const cgroupParent = join(scratch.cgroup, owner.replace(/\W+/g, '-'), `pod${uid}`);
  return PodSandboxConfig.fromPartial({
    ...config,
    metadata: { ...config.metadata, uid },
    labels: { app: 'bench', 'io.kubernetes.pod.name': `bench-${index}`, ...namesOf(uid) },
    annotations: {
      'kubernetes.io/config.seen': '2026-01-01T00:00:00.000000000Z',
      'kubernetes.io/config.source': 'api',
    },
    linux: { ...config.linux, cgroupParent },
  });
}

function kubeletContainer(image: string, index: number): ContainerConfig {
  const uid = `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`;
  return ContainerConfig.fromPartial({
    ...containerConfig(image),
    labels: { 'io.kubernetes.container.name': 'task', 'io.kubernetes.pod.name': `bench-${index}`, ...namesOf(uid) },
    annotations: {
      'io.kubernetes.container.hash': '89abcdef',
      'io.kubernetes.container.restartCount': '0',
      'io.kubernetes.container.terminationMessagePath': '/dev/termination-log',
      'io.kubernetes.container.terminationMessagePolicy': 'File',
      'io.kubernetes.pod.terminationGracePeriod': '30',
    },
  });
}

function namesOf(uid: string): Record<string, string> {
  return { 'io.kubernetes.pod.namespace': 'bench', 'io.kubernetes.pod.uid': uid };
}

async function measureLists(
  scratch: Scratch,
  candidates: readonly Candidate[],
  points: ReadonlyMap<Candidate, Point[]>,
  rounds: number,
): Promise<void> {
  await alternate(candidates, { warmUp: WARM_UP, measured: rounds }, async (candidate, isMeasured) => {
    scratch.throwIfInterrupted();
    const point = points.get(candidate)?.at(-1);
    if (!point) return;
    point.timings.isMeasuring = isMeasured;
    for (const listing of LISTINGS) {
      const found = await point.timings.time(listing, () => rawCall(candidate.runtime.runtime, listing));
      if (found.count() !== point.pods) {
        throw new Error(`${candidate.name}: ${listing} has ${found.count()} of ${point.pods} things`);
      }
    }
  });
}

/** CPU time of the daemons with idle pods, as they are, and listed every second as the kubelet does. */
async function reportIdle(candidates: readonly Candidate[], pods: number): Promise<void> {
  const rows: string[][] = [];
  for (const isRelisted of [false, true]) {
    const before = candidates.map(({ daemon }) => cpuSecondsIn(processText(daemon.pid, 'stat')));
    const from = performance.now();
    for (let second = 0; second < IDLE_SECONDS; second++) {
      if (isRelisted) await Promise.all(candidates.flatMap(relist));
      await sleep(1000);
    }
    const seconds = (performance.now() - from) / 1000;
    const percents = candidates.map(
      ({ daemon }, i) => ((cpuSecondsIn(processText(daemon.pid, 'stat')) - (before[i] ?? 0)) / seconds) * 100,
    );
    rows.push([isRelisted ? 'listed every second' : 'left alone', ...percents.map(percent => percent.toFixed(2))]);
  }
  console.log(`\nCPU of the daemon with ${pods} idle pods, percent of a core\n`);
  console.log(table(['', ...candidates.map(({ name }) => name)], rows));
}

function relist({ runtime }: Candidate): Promise<unknown>[] {
  return [rawCall(runtime.runtime, 'ListPodSandbox'), rawCall(runtime.runtime, 'ListContainers')];
}

/** How long a Version call takes while one list follows the other: five seconds of each in turn. */
async function reportVersions(scratch: Scratch, candidates: readonly Candidate[], pods: number): Promise<void> {
  const turns = new Map(candidates.map(candidate => [candidate, [] as number[][]]));
  await alternate(candidates, { warmUp: 1, measured: VERSION_TURNS }, async (candidate, isMeasured) => {
    scratch.throwIfInterrupted();
    const asked = await versionsDuringLists(candidate);
    if (isMeasured) turns.get(candidate)?.push(asked);
  });
  const rows = [...turns].map(([{ name }, asked]) => {
    const p99s = asked.map(one => quantile(one, 0.99));
    return [name, ms(median(asked.flat())), ms(median(p99s)), p99s.map(ms).join(' '), String(asked.flat().length)];
  });
  const beside = candidates.length > 1 ? 'all daemons with their pods' : 'nobody else with pods';
  console.log(`\nVersion while ${pods} pods are listed, ${beside}; ${VERSION_TURNS} turns of five seconds; ms\n`);
  console.log(table(['', 'p50', 'p99, median of turns', 'p99 of each', 'calls'], rows));
}

async function versionsDuringLists({ daemon, runtime }: Candidate): Promise<number[]> {
  const probe = new Worker(join(__dirname, 'version-probe.js'), { workerData: daemon.socket });
  const samples = new Promise<number[]>((resolve, reject) => probe.once('message', resolve).once('error', reject));
  const until = performance.now() + 5000;
  while (performance.now() < until) for (const listing of LISTINGS) await rawCall(runtime.runtime, listing);
  probe.postMessage('end');
  const asked = await samples;
  await probe.terminate();
  return asked;
}

function reportPoints(points: ReadonlyMap<Candidate, readonly Point[]>): void {
  const mb = (bytes: number) => (bytes / 1e6).toFixed(1);
  const header = [
    'pods',
    ...LISTINGS.flatMap(listing => [`${listing} ms`, 'p95']),
    'daemon RSS MB',
    'helpers PSS MB',
    'start ms',
  ];
  for (const [{ name }, all] of points) {
    const rows = all.map(({ pods, timings, daemonBytes, helperBytes, startMs }) => [
      String(pods),
      ...LISTINGS.flatMap(listing => {
        const samples = timings.of(listing);
        return samples.length === 0 ? ['', ''] : [ms(median(samples)), ms(quantile(samples, 0.95))];
      }),
      mb(daemonBytes),
      mb(helperBytes),
      Number.isNaN(startMs) ? '' : ms(startMs),
    ]);
    console.log(`\n${name}\n`);
    console.log(table(header, rows));
  }
}

function drawPoints(points: ReadonlyMap<Candidate, readonly Point[]>): void {
  const panel = (title: string, unit: string, of: (point: Point) => number) => ({
    title,
    unit,
    curves: [...points].map(([{ name }, all]): Curve => ({
      name,
      points: all.flatMap(point =>
        point.pods === 0 || Number.isNaN(of(point)) ? [] : [[point.pods, of(point)] as const],
      ),
    })),
  });
  const svg = drawCurves('Cost of pods, one container each', 'pods', [
    panel('ListContainerStats', 'ms', ({ timings }) => median(timings.of('ListContainerStats'))),
    panel('ListPodSandboxStats', 'ms', ({ timings }) => median(timings.of('ListPodSandboxStats'))),
    panel('Memory per pod', 'MB', ({ pods, daemonBytes, helperBytes }) => (daemonBytes + helperBytes) / pods / 1e6),
    panel('Start of one pod, four at a time', 'ms', ({ startMs }) => startMs),
  ]);
  const dir = join(installDir(), 'bench/results');
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'list.svg'), svg);
  console.log(`\nthe curves are drawn in ${join(dir, 'list.svg')}`);
}

/** Containers that are records only, and have ended, in a daemon of their own. */
async function reportSynthetic(scratch: Scratch, rounds: number): Promise<void> {
  const own = { ...scratch, dir: join(scratch.dir, 'synthetic'), run: join(scratch.run, 'synthetic') };
  mkdirSync(own.run);
  await writeRecords(own, SYNTHETIC);
  const daemon = await startBerth(own);
  try {
    const [runtime] = daemon.runtimes;
    if (!runtime) throw new Error('no runtime');
    const timings = new Timings();
    for (let round = 0; round < WARM_UP + rounds; round++) {
      timings.isMeasuring = round >= WARM_UP;
      const found = await timings.time('ListContainers', () => rawCall(runtime.runtime, 'ListContainers'));
      if (found.count() !== SYNTHETIC) throw new Error(`${found.count()} of ${SYNTHETIC} containers are listed`);
    }
    const samples = timings.of('ListContainers');
    const memory = (residentBytes(daemon.pid) / 1e6).toFixed(1);
    console.log(
      `\nListContainers of ${SYNTHETIC} containers that have ended: ${ms(median(samples))} ms, ` +
        `p95 ${ms(quantile(samples, 0.95))} ms; the daemon has ${memory} MB`,
    );
  } finally {
    await daemon.stop();
  }
}

async function writeRecords(scratch: Scratch, count: number): Promise<void> {
  const root = join(scratch.dir, 'berth/root');
  mkdirSync(root, { recursive: true });
  const store = openStore(join(root, 'db'), createLogger('error', 'text'));
  const sandboxes = store.table<SandboxRecord>('sandboxes', 1);
  const containers = store.table<ContainerRecord>('containers', 1);
  const sandboxId = 'f'.repeat(64) as SandboxId;
  const pod = kubeletPod(scratch, 'synthetic', 0);
  const base = { version: 1, owner: 'cri', createdAtNs: 1_700_000_000_000_000_000n } as const;
  await sandboxes.put(sandboxId, {
    ...base,
    id: sandboxId,
    state: 'notready',
    config: Buffer.from(PodSandboxConfig.encode(pod).finish()),
    runtimeHandler: '',
    hostname: 'synthetic',
    ownNetwork: false,
    ownIpc: true,
    cgroupParent: pod.linux?.cgroupParent ?? '',
    ownsCgroupParent: false,
  });
  const puts = Array.from({ length: count }, (_, i) => {
    const id = i.toString(16).padStart(64, '0') as ContainerId;
    // One whose writable layer is gone would be removed.
    mkdirSync(join(root, 'containers', id, 'upper'), { recursive: true });
    return containers.put(id, {
      ...base,
      id,
      sandboxId,
      state: 'exited',
      config: Buffer.from(ContainerConfig.encode(kubeletContainer('bench/task:1', i)).finish()),
      imageId: `sha256:${'0'.repeat(64)}`,
      imageRef: `sha256:${'0'.repeat(64)}`,
      layerKeys: [],
      cgroupPath: `/synthetic/${id}`,
      logPath: '',
      stopSignal: 15,
      startedAtNs: base.createdAtNs,
      finishedAtNs: base.createdAtNs,
      exitCode: 0,
      reason: 'Completed',
      message: '',
    });
  });
  await Promise.all(puts);
  await store.close();
}

async function removeAll({ runtime: { runtime } }: Candidate): Promise<void> {
  const { items } = await call(runtime.listPodSandbox.bind(runtime), { filter: undefined });
  for (let i = 0; i < items.length; i += AT_ONCE) {
    await Promise.all(
      items.slice(i, i + AT_ONCE).map(async ({ id }) => {
        await call(runtime.stopPodSandbox.bind(runtime), { podSandboxId: id });
        await call(runtime.removePodSandbox.bind(runtime), { podSandboxId: id });
      }),
    );
  }
}
