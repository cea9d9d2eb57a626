import { Metadata, type CallOptions, type ServiceError } from '@grpc/grpc-js';
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
import { pushImage, type Registry } from '../test/support/registry';
import { startContainerd, type Daemon, type Runtime } from './runtimes';
import { buildTask, findPeer, versionOf, type Scratch } from './scratch';

const CALL_MS = 30_000;

/** Makes the image whose program waits for SIGTERM, or ends at once; its reference. */
export async function pushTask(registry: Registry, { dir }: Scratch): Promise<string> {
  const task = readFileSync(buildTask(dir, join(installDir(), 'bench/task.c')));
  const built = busyboxImage({
    config: { Cmd: ['/bin/task', 'wait'] },
    extraLayers: [[{ path: 'bin/task', data: task, mode: 0o755 }]],
  });
  await pushImage(registry, 'bench/task', '1', built);
  return `${registry.host}/bench/task:1`;
}

export async function peers(scratch: Scratch, image: string): Promise<Daemon[]> {
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

export async function pull({ images }: Runtime, image: string): Promise<void> {
  const request = PullImageRequest.create({ image: ImageSpec.create({ image }) });
  await call(images.pullImage.bind(images), request);
}

/** As the kubelet asks, on the host's network: setting up a pod's network is the plugins' time, not the runtime's. */
export function podConfig({ dir, cgroup }: Scratch, index: number): PodSandboxConfig {
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

export function containerConfig(image: string): ContainerConfig {
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

export function call<Request, Response>(method: Method<Request, Response>, request: Request): Promise<Response> {
  return new Promise((resolve, reject) => {
    method(request, new Metadata(), { deadline: Date.now() + CALL_MS }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
}
