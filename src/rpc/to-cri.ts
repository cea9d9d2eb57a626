import {
  ContainerState,
  PodSandboxState,
  type Container as CriContainer,
  type ContainerStatus,
  type Image as CriImage,
  type Mount,
  type PodSandbox,
  type PodSandboxStatus,
} from '../cri';
import type { Container } from '../container/containers';
import type { Image } from '../image/images';
import { fits, type Platform } from '../image/platform';
import { criSignalOf } from '../oci/signals';
import { parseUser } from '../oci/user';
import type { Sandbox } from '../sandbox/sandboxes';

/** Labels and annotations go back exactly as they came. */
export function podSandbox({ record, config }: Sandbox): PodSandbox {
  return {
    id: record.id,
    metadata: config.metadata,
    state: sandboxState(record.state),
    createdAt: record.createdAtNs,
    labels: config.labels,
    annotations: config.annotations,
    runtimeHandler: record.runtimeHandler,
  };
}

export function podSandboxStatus({ record, config }: Sandbox): PodSandboxStatus {
  const [ip, ...more] = record.network?.ips ?? [];
  return {
    id: record.id,
    metadata: config.metadata,
    state: sandboxState(record.state),
    createdAt: record.createdAtNs,
    network: { ip: ip ?? '', additionalIps: more.map(other => ({ ip: other })) },
    linux: { namespaces: { options: config.linux?.securityContext?.namespaceOptions } },
    labels: config.labels,
    annotations: config.annotations,
    runtimeHandler: record.runtimeHandler,
  };
}

export function sandboxState(state: Sandbox['record']['state']): PodSandboxState {
  return state === 'ready' ? PodSandboxState.SANDBOX_READY : PodSandboxState.SANDBOX_NOTREADY;
}

export function criContainer({ record, config }: Container): CriContainer {
  return {
    id: record.id,
    podSandboxId: record.sandboxId,
    metadata: config.metadata,
    image: config.image,
    imageRef: record.imageId,
    state: containerState(record.state),
    createdAt: record.createdAtNs,
    labels: config.labels,
    annotations: config.annotations,
    imageId: record.imageId,
  };
}

export function containerStatus({ record, config }: Container): ContainerStatus {
  return {
    id: record.id,
    metadata: config.metadata,
    state: containerState(record.state),
    createdAt: record.createdAtNs,
    startedAt: record.startedAtNs,
    finishedAt: record.finishedAtNs,
    exitCode: record.exitCode,
    image: config.image,
    imageRef: record.imageId,
    reason: record.reason,
    message: record.message,
    labels: config.labels,
    annotations: config.annotations,
    mounts: config.mounts.map(mount => criMount(mount, record)),
    logPath: record.logPath,
    resources: config.linux?.resources ? { linux: config.linux.resources, windows: undefined } : undefined,
    imageId: record.imageId,
    user: record.user && {
      linux: {
        uid: BigInt(record.user.uid),
        gid: BigInt(record.user.gid),
        supplementalGroups: record.user.groups.map(BigInt),
      },
    },
    stopSignal: criSignalOf(record.stopSignal),
  };
}

/** As it was asked for; of an image volume, which image that was, in the form that PullImage answers with. */
function criMount(mount: Mount, { imageVolumes = [] }: Container['record']): Mount {
  const volume = imageVolumes.find(({ containerPath }) => containerPath === mount.containerPath);
  if (!volume || !mount.image) return mount;
  return { ...mount, image: { ...mount.image, imageRef: volume.imageId } };
}

export function containerState(state: Container['record']['state']): ContainerState {
  switch (state) {
    case 'created':
      return ContainerState.CONTAINER_CREATED;
    case 'running':
      return ContainerState.CONTAINER_RUNNING;
    case 'exited':
      return ContainerState.CONTAINER_EXITED;
    case 'creating':
      return ContainerState.CONTAINER_UNKNOWN;
  }
}

/**
 * `uid` for a USER that is a number, `username` for one that is a name; a USER that is neither says nothing. An image for
 * another platform than the node's is listed, since it takes space, without names: nobody may run it by one of them.
 */
export function criImage(image: Image, node: Platform): CriImage {
  const isOwn = fits(image.config, node);
  const user = imageUser(image.config.user);
  return {
    id: image.id,
    repoTags: isOwn ? [...image.tags] : [],
    repoDigests: isOwn ? [...image.digests] : [],
    size: image.sizeBytes,
    uid: user !== undefined && /^\d+$/.test(user) ? { value: BigInt(user) } : undefined,
    username: user !== undefined && !/^\d+$/.test(user) ? user : '',
    spec: {
      image: image.id,
      annotations: {},
      userSpecifiedImage: '',
      runtimeHandler: image.runtimeHandler,
      imageRef: '',
    },
    pinned: image.pinned,
  };
}

function imageUser(text: string): string | undefined {
  try {
    return text === '' ? undefined : parseUser(text).user;
  } catch {
    return undefined;
  }
}
