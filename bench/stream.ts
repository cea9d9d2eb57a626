import { once } from 'node:events';
import { WebSocket } from 'ws';
import { ExecRequest } from '../src/cri';
import { SpdyClient } from '../test/support/spdy-client';
import { startRegistry } from '../test/support/registry';
import { alternate, machine, median, table, Timings } from './measure';
import { call, containerConfig, peers, podConfig, pull, pushTask } from './pod';
import { startBerth, type Daemon, type Runtime } from './runtimes';
import { inScratch, roundsOr } from './scratch';

const BYTES = 200_000_000;
const COMMAND = ['head', '-c', String(BYTES), '/dev/zero'];

type Transport = 'SPDY' | 'WebSocket';

interface Candidate {
  runtime: Runtime;
  containerId: string;
  transport: Transport;
}

inScratch(async scratch => {
  const rounds = roundsOr(10);
  const registry = await startRegistry();
  const daemons: Daemon[] = [];
  const candidates: Candidate[] = [];
  try {
    const image = await pushTask(registry, scratch);
    daemons.push(await startBerth(scratch), ...(await peers(scratch, image)));
    const runtimes = daemons.flatMap(daemon => daemon.runtimes);
    for (const [i, runtime] of runtimes.entries()) {
      await pull(runtime, image);
      const containerId = await start(runtime, podConfig(scratch, i), image);
      candidates.push({ runtime, containerId, transport: 'SPDY' });
      // containerd refuses WebSocket.
      if (runtime.name === 'berth') candidates.push({ runtime, containerId, transport: 'WebSocket' });
    }
    const timings = new Timings();
    await alternate(candidates, { warmUp: 1, measured: rounds }, async (candidate, isMeasured) => {
      scratch.throwIfInterrupted();
      timings.isMeasuring = isMeasured;
      await timings.time(nameOf(candidate), () => receive(candidate));
    });
    console.log(`${BYTES / 1e6} MB of output by exec, medians of ${rounds} rounds. ${machine()}\n`);
    const rows = timings.names().map(name => [name, (BYTES / 1000 / median(timings.of(name))).toFixed(0)]);
    console.log(table(['', 'MB/s'], rows));
  } finally {
    for (const { runtime } of candidates) await removeAll(runtime);
    for (const daemon of daemons) await daemon.stop();
    await registry.stop();
  }
}).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

function nameOf({ runtime, transport }: Candidate): string {
  return `${runtime.name}, ${transport}`;
}

async function start({ runtime, handler }: Runtime, pod: ReturnType<typeof podConfig>, image: string): Promise<string> {
  const { podSandboxId } = await call(runtime.runPodSandbox.bind(runtime), { config: pod, runtimeHandler: handler });
  const request = { podSandboxId, config: containerConfig(image), sandboxConfig: pod };
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

/** Counts and forgets: a client that did more would be measured with it. */
async function receive({ runtime: { runtime }, containerId, transport }: Candidate): Promise<void> {
  const request = ExecRequest.fromPartial({ containerId, cmd: COMMAND, stdout: true });
  const { url } = await call(runtime.exec.bind(runtime), request);
  const received = await (transport === 'SPDY' ? overSpdy(url) : overWebSocket(url));
  if (received < BYTES) throw new Error(`${transport}: ${received} bytes came of ${BYTES}`);
}

async function overSpdy(url: string): Promise<number> {
  const client = await SpdyClient.connect(url, ['v4.channel.k8s.io']);
  await client.open({ streamtype: 'error' });
  const stdout = client.begin({ streamtype: 'stdout' });
  await stdout.answered;
  let received = stdout.received.length;
  client.socket.removeAllListeners('data');
  await new Promise<void>((resolve, reject) => {
    client.socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
      if (received >= BYTES) resolve();
    });
    client.socket.once('close', () => reject(new Error('closed')));
  });
  client.socket.destroy();
  return received;
}

async function overWebSocket(url: string): Promise<number> {
  const webSocket = new WebSocket(url.replace(/^http/, 'ws'), ['v5.channel.k8s.io'], { perMessageDeflate: false });
  let received = 0;
  webSocket.on('message', (data: Buffer) => (received += data[0] === 1 ? data.length - 1 : 0));
  await once(webSocket, 'close');
  return received;
}
