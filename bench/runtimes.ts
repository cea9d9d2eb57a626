import { credentials } from '@grpc/grpc-js';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ImageServiceClient, RuntimeServiceClient } from '../src/cri';
import { installDir } from '../src/native/paths';
import type { Scratch } from './scratch';

/** A CRI server that the benchmark started, and its clients. */
export interface Runtime {
  name: string;
  /** RunPodSandbox's runtime_handler. */
  handler: string;
  runtime: RuntimeServiceClient;
  images: ImageServiceClient;
}

/** A daemon of the benchmark's; several runtimes may be its handlers. */
export interface Daemon {
  runtimes: Runtime[];
  pid: number;
  /** Processes that work for it and are not its children. */
  shims(): number[];
  /** Where it serves the CRI. */
  socket: string;
  stop(): Promise<void>;
  /** SIGKILL; what it ran runs on. */
  kill(): Promise<void>;
  /** All that it has said since it was started. */
  log(): string;
}

const DEADLINE_MS = 30_000;
/** Then a daemon that was asked to end is killed. */
const END_WITHIN_MS = 20_000;
/** What the kubelet and crictl take. */
const CRI_MESSAGE_BYTES = 16 * 1024 * 1024;

/** `preload` is a module that is loaded into it first, `env` what it is told; without `embedded` it has no network of its own. */
export async function startBerth(
  { dir, run }: Scratch,
  {
    preload,
    env = {},
    name = 'berth',
    embedded = false,
  }: { preload?: string; env?: Record<string, string>; name?: string; embedded?: boolean } = {},
): Promise<Daemon> {
  const home = join(dir, name);
  mkdirSync(home, { recursive: true });
  const config = join(home, 'config.toml');
  writeFileSync(
    config,
    `[runtime]\ncgroup_driver = "cgroupfs"\n[network]\nembedded = "${embedded ? 'all' : 'none'}"\ncni_config_dir = "${home}/cni"\n`,
  );
  const options = ['--root', join(home, 'root'), '--state', join(run, name), '--config', config];
  // BERTH_BENCH_NODE_OPTIONS=--cpu-prof shows where the daemon's time goes.
  const nodeOptions = (process.env.BERTH_BENCH_NODE_OPTIONS ?? '').split(' ').filter(word => word !== '');
  const launcher = join(installDir(), 'bin/berthd');
  const preloaded = preload === undefined ? [] : ['--require', preload];
  const child = start(home, process.execPath, [...nodeOptions, ...preloaded, launcher, ...options], env);
  return daemon(child, join(run, name, 'cri.sock'), home, [{ name, handler: '' }]);
}

/** A containerd of the benchmark's own: its directories, sockets and config lie in the scratch directory. */
export async function startContainerd(
  { dir, run }: Scratch,
  program: string,
  pauseImage: string,
  oci: readonly { name: string; program: string }[],
): Promise<Daemon> {
  const home = join(dir, 'containerd');
  mkdirSync(join(home, 'cni'), { recursive: true });
  writeFileSync(join(home, 'config.toml'), containerdConfig(home, join(run, 'containerd'), pauseImage, oci));
  const child = start(home, program, ['--config', join(home, 'config.toml')]);
  const handlers = oci.map(({ name }) => ({ name: `containerd, ${name}`, handler: name }));
  const started = await daemon(child, join(home, 'containerd.sock'), home, handlers);
  return {
    ...started,
    shims: () => shimsOf(join(home, 'containerd.sock')),
    stop: async () => {
      await started.stop();
      await endShims(join(home, 'containerd.sock'));
    },
  };
}

function start(home: string, program: string, args: string[], env: Record<string, string> = {}): ChildProcess {
  const log = openSync(join(home, 'log'), 'w');
  // A session of its own: the terminal's Ctrl-C is for the benchmark, which then stops what it started.
  const child = spawn(program, args, { stdio: ['ignore', log, log], detached: true, env: { ...process.env, ...env } });
  closeSync(log);
  return child;
}

async function daemon(
  child: ChildProcess,
  socket: string,
  home: string,
  handlers: readonly { name: string; handler: string }[],
): Promise<Daemon> {
  // Asks often whether the daemon is there, so that what it took to start can be told.
  const options = {
    'grpc.initial_reconnect_backoff_ms': 10,
    'grpc.max_reconnect_backoff_ms': 20,
    'grpc.max_receive_message_length': CRI_MESSAGE_BYTES,
  };
  const runtime = new RuntimeServiceClient(`unix:${socket}`, credentials.createInsecure(), options);
  const images = new ImageServiceClient(`unix:${socket}`, credentials.createInsecure(), options);
  const end = async (signal: NodeJS.Signals) => {
    runtime.close();
    images.close();
    const exited = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined;
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), END_WITHIN_MS);
    await exited;
    clearTimeout(late);
  };
  const stop = () => end('SIGTERM');
  try {
    await promisify(runtime.waitForReady.bind(runtime))(Date.now() + DEADLINE_MS);
  } catch {
    await stop();
    throw new Error(`a daemon does not answer:\n${readFileSync(join(home, 'log'), 'utf8')}`);
  }
  return {
    runtimes: handlers.map(({ name, handler }) => ({ name, handler, runtime, images })),
    pid: child.pid ?? 0,
    shims: () => [],
    socket,
    stop,
    kill: () => end('SIGKILL'),
    log: () => readFileSync(join(home, 'log'), 'utf8'),
  };
}

/** A shim ends with its pod; one that is left, of a pod that could not be removed, is killed. */
async function endShims(socket: string): Promise<void> {
  for (let i = 0; i < 20 && shimsOf(socket).length > 0; i++) await sleep(50);
  for (const pid of shimsOf(socket)) process.kill(pid, 'SIGKILL');
}

function shimsOf(socket: string): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .filter(pid => {
      try {
        const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return argv[0]?.includes('containerd-shim') && argv.includes(socket);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** Where network plugins lie: Debian's place, or that of everybody else. */
export function pluginDir(): string {
  return existsSync('/usr/lib/cni') ? '/usr/lib/cni' : '/opt/cni/bin';
}

function containerdConfig(
  home: string,
  state: string,
  pauseImage: string,
  oci: readonly { name: string; program: string }[],
): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  const others = ['aufs', 'btrfs', 'zfs', 'devmapper'].map(name => `"io.containerd.snapshotter.v1.${name}"`).join(', ');
  return `
version = 2
root = "${home}/root"
state = "${state}"
disabled_plugins = [${others}]
[grpc]
  address = "${home}/containerd.sock"
[ttrpc]
  address = "${home}/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "${home}/opt"
[${cri}]
  sandbox_image = "${pauseImage}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  restrict_oom_score_adj = true
  [${cri}.cni]
    conf_dir = "${home}/cni"
    bin_dir = "${pluginDir()}"
  [${cri}.containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "${oci[0]?.name ?? 'runc'}"
${oci
  .map(
    ({ name, program }) => `
    [${cri}.containerd.runtimes.${name}]
      runtime_type = "io.containerd.runc.v2"
      [${cri}.containerd.runtimes.${name}.options]
        BinaryName = "${program}"
        SystemdCgroup = false`,
  )
  .join('')}
`;
}
