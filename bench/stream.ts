import { closeSync, fstatSync, openSync, readSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ContainerState, ExecRequest } from '../src/cri';
import { SpdyClient } from '../test/support/spdy-client';
import { startRegistry } from '../test/support/registry';
import { alternate, machine, median, table, Timings } from './measure';
import { call, containerConfig, peers, podConfig, pull, pushTask } from './pod';
import { watchCost } from './process-cost';
import { startBerth, type Daemon, type Runtime } from './runtimes';
import { inScratch, roundsOr, type Scratch } from './scratch';

const MUCH_BYTES = 200_000_000;
/** Below what gRPC's clients take by default, and below ExecSync's own limit. */
const SYNC_BYTES = 12_000_000;
const LINE_BYTES = 128;
const LOG_WITHIN_MS = 60_000;

/** One thing to carry, in one runtime. */
interface Candidate {
  runtime: Runtime;
  daemon: Daemon;
  pod: Pod;
  what: 'log' | 'exec, SPDY' | 'exec, WebSocket' | 'ExecSync';
}

interface Pod {
  podSandboxId: string;
  config: ReturnType<typeof podConfig>;
  /** Runs; execs go there. */
  containerId: string;
}

inScratch(async scratch => {
  const rounds = roundsOr(10);
  const only = process.argv[3];
  const registry = await startRegistry();
  const daemons: Daemon[] = [];
  const candidates: Candidate[] = [];
  try {
    const image = await pushTask(registry, scratch);
    daemons.push(await startBerth(scratch));
    if (process.env['BERTH_BENCH_ALONE'] === undefined) daemons.push(...(await peers(scratch, image)));
    const all = daemons.flatMap(daemon => daemon.runtimes.map(runtime => ({ daemon, runtime })));
    for (const [i, { daemon, runtime }] of all.entries()) {
      await pull(runtime, image);
      const pod = await startPod(runtime, podConfig(scratch, i), image);
      for (const what of ['log', 'exec, SPDY', 'exec, WebSocket', 'ExecSync'] as const) {
        // containerd refuses WebSocket.
        if (what === 'exec, WebSocket' && runtime.name !== 'berth') continue;
        if (only === undefined || what.includes(only)) candidates.push({ runtime, daemon, pod, what });
      }
    }
    const timings = new Timings();
    const cpu = new Timings();
    await alternate(candidates, { warmUp: 1, measured: rounds }, async (candidate, isMeasured) => {
      scratch.throwIfInterrupted();
      timings.isMeasuring = cpu.isMeasuring = isMeasured;
      const cost = watchAll([candidate.daemon.pid, ...candidate.daemon.shims()]);
      const tidyUp = await timings.time(keyOf(candidate), () => carry(candidate, scratch, image));
      cpu.add(keyOf(candidate), cost() * 1000);
      await tidyUp?.();
    });
    report(candidates, rounds, timings, cpu);
  } finally {
    try {
      for (const runtime of new Set(candidates.map(candidate => candidate.runtime))) await removeAll(runtime);
    } finally {
      for (const daemon of daemons) await daemon.stop();
      await registry.stop();
    }
  }
}).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

function keyOf({ runtime, what }: Candidate): string {
  return `${what}, ${runtime.name}`;
}

function report(candidates: readonly Candidate[], rounds: number, timings: Timings, cpu: Timings): void {
  console.log(`Output carried, medians of ${rounds} rounds. ${machine()}\n`);
  const rows = [...candidates]
    .sort((a, b) => a.what.localeCompare(b.what))
    .map(candidate => {
      const bytes = candidate.what === 'ExecSync' ? SYNC_BYTES : MUCH_BYTES;
      const ms = median(timings.of(keyOf(candidate)));
      const cpuSecondsPerGb = median(cpu.of(keyOf(candidate))) / 1000 / (bytes / 1e9);
      return [keyOf(candidate), (bytes / 1000 / ms).toFixed(0), cpuSecondsPerGb.toFixed(2)];
    });
  console.log(table(['', 'MB/s', 'CPU s a GB'], rows));
}

/** CPU seconds of processes and their children, those of the commands among them. */
function watchAll(pids: readonly number[]): () => number {
  const costs = pids.map(watchCost);
  return () => costs.reduce((sum, cost) => sum + cost().cpuSeconds, 0);
}

async function startPod(runtime: Runtime, config: Pod['config'], image: string): Promise<Pod> {
  const request = { config, runtimeHandler: runtime.handler };
  const { podSandboxId } = await call(runtime.runtime.runPodSandbox.bind(runtime.runtime), request);
  const pod = { podSandboxId, config };
  return { ...pod, containerId: await startContainer(runtime, pod, containerConfig(image)) };
}

async function startContainer(
  { runtime }: Runtime,
  { podSandboxId, config: sandboxConfig }: Pick<Pod, 'podSandboxId' | 'config'>,
  config: ReturnType<typeof containerConfig>,
): Promise<string> {
  const request = { podSandboxId, config, sandboxConfig };
  const { containerId } = await call(runtime.createContainer.bind(runtime), request);
  await call(runtime.startContainer.bind(runtime), { containerId });
  return containerId;
}

async function removeAll({ runtime }: Runtime): Promise<void> {
  const { items } = await call(runtime.listPodSandbox.bind(runtime), { filter: undefined });
  for (const { id: podSandboxId } of items) {
    await call(runtime.stopPodSandbox.bind(runtime), { podSandboxId });
    await call(runtime.removePodSandbox.bind(runtime), { podSandboxId });
  }
}

/** What it resolves with, if anything, is not part of what is measured. */
async function carry(
  candidate: Candidate,
  scratch: Scratch,
  image: string,
): Promise<(() => Promise<void>) | undefined> {
  const { runtime, pod, what } = candidate;
  if (what === 'log') return toLog(runtime, pod, join(scratch.dir, 'logs'), image);
  if (what === 'ExecSync') {
    await bySync(runtime, pod);
    return undefined;
  }
  const request = ExecRequest.fromPartial({ containerId: pod.containerId, cmd: printing(MUCH_BYTES), stdout: true });
  const { url } = await call(runtime.runtime.exec.bind(runtime.runtime), request);
  await (what === 'exec, SPDY' ? overSpdy(url) : overWebSocket(url));
  return undefined;
}

function printing(bytes: number): string[] {
  return ['/bin/task', 'print', String(bytes), String(LINE_BYTES)];
}

/** A container from its creation to its last line in the log; it is to be removed afterwards. */
async function toLog(runtime: Runtime, pod: Pod, logs: string, image: string): Promise<() => Promise<void>> {
  const config = containerConfig(image);
  config.metadata = { name: 'printer', attempt: 0 };
  config.command = printing(MUCH_BYTES);
  config.logPath = 'printer.log';
  const path = join(logs, config.logPath);
  const containerId = await startContainer(runtime, pod, config);
  await endOf(path);
  return async () => {
    await untilExited(runtime, containerId);
    await call(runtime.runtime.removeContainer.bind(runtime.runtime), { containerId });
    rmSync(path);
  };
}

/** A stop of one that is just ending fails in containerd: its shim has gone. */
async function untilExited({ runtime }: Runtime, containerId: string): Promise<void> {
  for (const until = Date.now() + LOG_WITHIN_MS; Date.now() < until; await sleep(20)) {
    const { status } = await call(runtime.containerStatus.bind(runtime), { containerId, verbose: false });
    if (status?.state === ContainerState.CONTAINER_EXITED) return;
  }
  throw new Error(`container ${containerId} has printed all and does not end`);
}

async function endOf(path: string): Promise<void> {
  const file = openSync(path, 'r');
  const last = Buffer.alloc(4);
  try {
    for (const until = Date.now() + LOG_WITHIN_MS; last.toString() !== 'end\n'; await sleep(2)) {
      if (Date.now() > until) throw new Error(`${path} has no end`);
      const { size } = fstatSync(file);
      if (size >= last.length) readSync(file, last, 0, last.length, size - last.length);
    }
  } finally {
    closeSync(file);
  }
}

async function bySync({ runtime }: Runtime, { containerId }: Pod): Promise<void> {
  const request = { containerId, cmd: printing(SYNC_BYTES), timeout: 30n };
  const { stdout } = await call(runtime.execSync.bind(runtime), request);
  if (stdout.length < SYNC_BYTES) throw new Error(`ExecSync: ${stdout.length} bytes came of ${SYNC_BYTES}`);
}

/** Counts and forgets: a client that did more would be measured with it. */
async function overSpdy(url: string): Promise<void> {
  const client = await SpdyClient.connect(url, ['v4.channel.k8s.io']);
  await client.open({ streamtype: 'error' });
  const stdout = client.begin({ streamtype: 'stdout' });
  await stdout.answered;
  let received = stdout.received.length;
  client.socket.removeAllListeners('data');
  await new Promise<void>((resolve, reject) => {
    client.socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
      if (received >= MUCH_BYTES) resolve();
    });
    client.socket.once('close', () => reject(new Error(`SPDY: ${received} bytes came of ${MUCH_BYTES}`)));
  });
  client.socket.destroy();
}

async function overWebSocket(url: string): Promise<void> {
  const { hostname, port, pathname } = new URL(url);
  const socket = connect(Number(port), hostname);
  const lines = [
    `GET ${pathname} HTTP/1.1`,
    `Host: ${hostname}:${port}`,
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${Buffer.alloc(16).toString('base64')}`,
    'Sec-WebSocket-Protocol: v5.channel.k8s.io',
  ];
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  let received = 0;
  await new Promise<void>((resolve, reject) => {
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
      if (received >= MUCH_BYTES) resolve();
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error(`WebSocket: ${received} bytes came of ${MUCH_BYTES}`)));
  });
  socket.destroy();
}
