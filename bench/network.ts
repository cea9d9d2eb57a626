import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Context } from '../src/base/context';
import { createLogger } from '../src/base/log';
import { NamespaceMode, PodSandboxConfig } from '../src/cri';
import { runProgram } from '../src/native/run-program';
import { findNetwork } from '../src/network/cni/config';
import { addNetwork, deleteNetwork } from '../src/network/cni/operations';
import type { PluginHost } from '../src/network/cni/plugin';
import { runtimeConfigOf } from '../src/network/runtime-config';
import { startRegistry } from '../test/support/registry';
import { alternate, machine, median, ms, quantile, table, Timings } from './measure';
import { call, peers, podConfig, pushTask } from './pod';
import { pluginDir, startBerth, type Daemon, type Runtime } from './runtimes';
import { inScratch, roundsOr, type Scratch } from './scratch';

const INSIDE = 'BERTH_BENCH_HAS_OWN_NETWORK';

/** One way to a pod with a network, and back. */
interface Candidate {
  readonly name: string;
  up(config: PodSandboxConfig, index: number): Promise<string>;
  down(pod: string): Promise<void>;
  /** What is not measured. */
  remove(pod: string): Promise<void>;
}

if (process.env[INSIDE] === undefined) {
  // The machine's own network is left alone; the registry and all daemons are in here, too.
  const script = 'ip link set lo up && exec "$@"';
  const args = ['--net', 'sh', '-c', script, 'sh', process.execPath, ...process.argv.slice(1)];
  const { status } = spawnSync('unshare', args, { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } });
  process.exitCode = status ?? 1;
} else {
  inScratch(measure).catch((error: unknown) => {
    console.error(error);
    process.exitCode = 1;
  });
}

async function measure(scratch: Scratch): Promise<void> {
  const rounds = roundsOr(20);
  const registry = await startRegistry();
  const daemons: Daemon[] = [];
  try {
    const image = await pushTask(registry, scratch);
    ['plugins', 'berth', 'containerd'].forEach((name, i) => writeNetwork(scratch, name, i));
    daemons.push(await startBerth(scratch), await startBerth(scratch, { name: 'native', embedded: true }));
    daemons.push(...(await peers(scratch, image)));
    const runtimes = daemons.flatMap(daemon => daemon.runtimes);
    const candidates = [await pluginsAlone(scratch), ...runtimes.map(byCri)];
    const timings = new Map(candidates.map(({ name }) => [name, new Timings()]));
    let index = 0;
    await alternate(candidates, { warmUp: 2, measured: rounds }, async (candidate, isMeasured) => {
      scratch.throwIfInterrupted();
      const of = timings.get(candidate.name) ?? new Timings();
      of.isMeasuring = isMeasured;
      const config = networked(podConfig(scratch, index), index);
      const pod = await of.time('up', () => candidate.up(config, index++));
      try {
        await of.time('down', () => candidate.down(pod));
      } finally {
        await candidate.remove(pod);
      }
    });
    report(timings, rounds);
  } finally {
    for (const daemon of daemons) await daemon.stop();
    await registry.stop();
  }
}

/** The plugins' network of one candidate: a bridge and addresses of its own. */
function writeNetwork({ dir }: Scratch, name: string, number: number): void {
  const home = join(dir, name, 'cni');
  mkdirSync(home, { recursive: true });
  const ipam = {
    type: 'host-local',
    dataDir: join(dir, name, 'leases'),
    ranges: [[{ subnet: `10.${200 + number}.0.0/16` }]],
    routes: [{ dst: '0.0.0.0/0' }],
  };
  const plugins = [
    { type: 'bridge', bridge: `bench${number}`, isGateway: true, ipMasq: true, hairpinMode: true, ipam },
    { type: 'portmap', capabilities: { portMappings: true } },
    { type: 'bandwidth', capabilities: { bandwidth: true } },
  ];
  const text = JSON.stringify({ cniVersion: '1.0.0', name: `bench${number}`, plugins });
  writeFileSync(join(home, '10-bench.conflist'), text);
}

/** The same wishes for all: a port, and a bandwidth both ways. */
function networked(config: PodSandboxConfig, index: number): PodSandboxConfig {
  const portMappings = [{ protocol: 0, containerPort: 80, hostPort: 20_000 + index, hostIp: '' }];
  const annotations = { 'kubernetes.io/ingress-bandwidth': '100M', 'kubernetes.io/egress-bandwidth': '100M' };
  const more = PodSandboxConfig.fromPartial({
    portMappings,
    annotations,
    linux: { securityContext: { namespaceOptions: { network: NamespaceMode.POD, pid: NamespaceMode.CONTAINER } } },
  });
  return { ...config, ...more, metadata: config.metadata, logDirectory: config.logDirectory, linux: more.linux };
}

function byCri({ name, handler, runtime }: Runtime): Candidate {
  return {
    name,
    up: async config => {
      const request = { config, runtimeHandler: handler };
      return (await call(runtime.runPodSandbox.bind(runtime), request)).podSandboxId;
    },
    down: async podSandboxId => void (await call(runtime.stopPodSandbox.bind(runtime), { podSandboxId })),
    remove: async podSandboxId => void (await call(runtime.removePodSandbox.bind(runtime), { podSandboxId })),
  };
}

/** Started as the daemon starts them, on a namespace that was made before the clock runs. */
async function pluginsAlone({ dir }: Scratch): Promise<Candidate> {
  const { network } = await findNetwork(join(dir, 'plugins/cni'));
  if (!network) throw new Error('the network of the plugins cannot be read');
  const host: PluginHost = { run: runProgram, binDirs: [pluginDir()], timeoutMs: 60_000, builtIn: new Map() };
  const ctx = Context.of(createLogger('error', 'text'));
  const netns = join(dir, 'netns');
  closeSync(openSync(netns, 'w'));
  execFileSync('unshare', [`--net=${netns}`, 'true']);
  const attachment = (id: string) => ({ containerId: id, netns, ifname: 'eth0', args: 'IgnoreUnknown=1' });
  let runtimeConfig = {};
  let result: Awaited<ReturnType<typeof addNetwork>> | undefined;
  return {
    name: 'plugins alone',
    up: async (config, index) => {
      runtimeConfig = runtimeConfigOf(config, []);
      const id = `bench-${index}`;
      result = await addNetwork(ctx, host, network, attachment(id), runtimeConfig);
      return id;
    },
    down: id => deleteNetwork(ctx, host, network, attachment(id), runtimeConfig, result),
    remove: async () => undefined,
  };
}

function report(timings: ReadonlyMap<string, Timings>, rounds: number): void {
  const rows = [...timings].map(([name, of]) => [
    name,
    ...['up', 'down'].flatMap(what => [ms(median(of.of(what))), ms(quantile(of.of(what), 0.95))]),
  ]);
  console.log(`\na pod with a network, a published port and limits of bandwidth; ${rounds} rounds; ${machine()}\n`);
  console.log(table(['ms', 'up', 'p95', 'down', 'p95'], rows));
}
