import { Metadata, status, type CallOptions, type ServiceError } from '@grpc/grpc-js';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  ContainerConfig,
  ImageSpec,
  NamespaceMode,
  PodSandboxConfig,
  PullImageRequest,
  SecurityProfile,
  SecurityProfile_ProfileType,
} from '../src/cri';
import { installDir } from '../src/native/paths';
import { busyboxImage } from '../test/support/image-builder';
import { pushImage, startRegistry } from '../test/support/registry';
import { alternate, machine, median, ms, quantile, table, Timings } from './measure';
import { startBerth, startContainerd, type Daemon, type Runtime } from './runtimes';
import { buildProgram, findPeer, inScratch, roundsOr, versionOf, type Scratch } from './scratch';

const CALL_MS = 30_000;

inScratch(async scratch => {
  const rounds = roundsOr(40);
  const registry = await startRegistry();
  const daemons: Daemon[] = [];
  try {
    const image = `${registry.host}/bench/task:1`;
    const task = readFileSync(buildProgram(join(scratch.dir, 'task'), join(installDir(), 'bench/task.c')));
    const built = busyboxImage({
      config: { Cmd: ['/bin/task', 'wait'] },
      extraLayers: [[{ path: 'bin/task', data: task, mode: 0o755 }]],
    });
    await pushImage(registry, 'bench/task', '1', built);
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

async function peers(scratch: Scratch, image: string): Promise<Daemon[]> {
  const containerd = findPeer('containerd');
  if (containerd === undefined) return [];
  const oci = ['runc', 'crun'].flatMap(name => {
    const program = findPeer(name);
    return program === undefined ? [] : [{ name, program, version: versionOf(program) }];
  });
  if (oci.length === 0) return [];
  console.log(
    `containerd ${versionOf(containerd)}, ${oci.map(({ name, version }) => `${name} ${version}`).join(', ')}`,
  );
  return [await startContainerd(scratch, containerd, image, oci)];
}

async function pull({ images }: Runtime, image: string): Promise<void> {
  const request = PullImageRequest.create({ image: ImageSpec.create({ image }) });
  await call(images.pullImage.bind(images), request);
}

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

/** As the kubelet asks, on the host's network: setting up a pod's network is the plugins' time, not the runtime's. */
function podConfig({ dir, cgroup }: Scratch, index: number): PodSandboxConfig {
  const logDirectory = join(dir, 'logs');
  if (!existsSync(logDirectory)) mkdirSync(logDirectory);
  return PodSandboxConfig.fromPartial({
    metadata: { name: `bench-${index}`, uid: `bench-${index}`, namespace: 'bench', attempt: 0 },
    logDirectory,
    linux: {
      cgroupParent: cgroup,
      securityContext: {
        namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD },
        seccomp: unconfined(),
      },
    },
  });
}

function containerConfig(image: string): ContainerConfig {
  return ContainerConfig.fromPartial({
    metadata: { name: 'task', attempt: 0 },
    image: { image },
    command: ['/bin/task', 'wait'],
    logPath: 'task.log',
    linux: {
      resources: { cpuShares: 512n, memoryLimitInBytes: 64n << 20n, oomScoreAdj: 100n },
      securityContext: {
        namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD },
        seccomp: unconfined(),
      },
    },
  });
}

/** The kubelet's default, too; compiling a filter would be measured otherwise. */
function unconfined(): SecurityProfile {
  return SecurityProfile.create({ profileType: SecurityProfile_ProfileType.Unconfined });
}

type Method<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  done: (error: ServiceError | null, response: Response) => void,
) => unknown;

function call<Request, Response>(method: Method<Request, Response>, request: Request): Promise<Response> {
  return new Promise((resolve, reject) => {
    method(request, new Metadata(), { deadline: Date.now() + CALL_MS }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
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
