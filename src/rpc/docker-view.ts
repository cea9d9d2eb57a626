/** Containers and images under docker's keys, for the templates and scripts that people have. */
import type { Container, Containers } from '../container/containers';
import { isPaused } from '../container/pause';
import type { PublishedPort } from '../cri/generated/berth/v1/berth';
import type { RunOptions } from '../cri/generated/berth/v1/run';
import { MountPropagation } from '../cri';
import type { Image } from '../image/images';
import { familiarForm, parseReference } from '../image/reference';
import { signalName } from '../oci/signals';
import { portsOf } from './berth-network';

/** What of an OCI spec's process it takes, as the record has it. */
export interface ProcessView {
  args: readonly string[];
  env: readonly string[];
  cwd: string;
  apparmorProfile?: string;
  selinuxLabel?: string;
}

export function dockerContainer(
  containers: Containers,
  container: Container,
  name: string,
  process: ProcessView | undefined,
): object {
  const { record, config, options } = container;
  const { files } = containers.sandboxes.paths(record.sandboxId);
  const [path = '', ...args] = process?.args ?? [];
  return {
    Id: record.id,
    Created: rfc3339(record.createdAtNs),
    Path: path,
    Args: args,
    State: stateOf(containers, container),
    Image: record.imageId,
    ResolvConfPath: files['/etc/resolv.conf'] ?? '',
    HostnamePath: files['/etc/hostname'] ?? '',
    HostsPath: files['/etc/hosts'] ?? '',
    LogPath: record.logPath,
    Name: `/${name}`,
    RestartCount: record.restarts ?? 0,
    Driver: 'overlay',
    Platform: 'linux',
    AppArmorProfile: process?.apparmorProfile ?? '',
    ProcessLabel: process?.selinuxLabel ?? '',
    HostConfig: hostConfig(containers, container, options),
    Mounts: config.mounts.map(mount => mountOf(containers, mount)),
    Config: configOf(containers, container, process),
    NetworkSettings: networkOf(containers, container),
  };
}

function stateOf(containers: Containers, container: Container): object {
  const { record, health } = container;
  const paused = isPaused(containers, container);
  const restarting = container.isRestarting ?? false;
  const status = paused ? 'paused' : restarting && record.state === 'exited' ? 'restarting' : record.state;
  return {
    Status: status,
    Running: record.state === 'running',
    Paused: paused,
    Restarting: restarting,
    OOMKilled: record.reason === 'OOMKilled',
    Dead: false,
    Pid: record.state === 'running' ? (record.process?.pid ?? 0) : 0,
    ExitCode: record.exitCode,
    Error: record.reason === 'StartError' ? record.message : '',
    StartedAt: rfc3339(record.startedAtNs),
    FinishedAt: rfc3339(record.finishedAtNs),
    ...(health && record.state === 'running'
      ? {
          Health: {
            Status: health.status,
            FailingStreak: health.failingStreak,
            Log: health.log.map(({ startedAtNs, endedAtNs, exitCode, output }) => ({
              ...{ Start: rfc3339(startedAtNs), End: rfc3339(endedAtNs), ExitCode: exitCode, Output: output },
            })),
          },
        }
      : {}),
  };
}

function hostConfig(containers: Containers, { record, config }: Container, options: RunOptions): object {
  const { resources } = config.linux ?? {};
  const { restart } = options;
  return {
    Binds: config.mounts.map(({ hostPath, containerPath, readonly }) => {
      return `${containers.volumes.nameOf(hostPath) ?? hostPath}:${containerPath}${readonly ? ':ro' : ''}`;
    }),
    NetworkMode: networkName(containers, record.sandboxId),
    RestartPolicy: { Name: restart?.name ?? 'no', MaximumRetryCount: restart?.maximumRetries ?? 0 },
    AutoRemove: record.autoRemove ?? false,
    CapAdd: options.capAdd,
    CapDrop: options.capDrop,
    Dns: options.dns,
    DnsSearch: options.dnsSearch,
    DnsOptions: options.dnsOptions,
    ExtraHosts: options.extraHosts.map(({ name, address }) => `${name}:${address}`),
    GroupAdd: options.groupAdd,
    IpcMode: options.ipcMode || 'private',
    PidMode: options.pidMode,
    UTSMode: options.utsMode,
    UsernsMode: options.usernsMode,
    Privileged: config.linux?.securityContext?.privileged ?? false,
    ReadonlyRootfs: config.linux?.securityContext?.readonlyRootfs ?? false,
    SecurityOpt: options.securityOpts,
    ShmSize: Number(options.shmBytes) || 67_108_864,
    Sysctls: options.sysctls,
    Init: options.init,
    Tmpfs: Object.fromEntries(options.tmpfs.map(({ target, options: how }) => [target, how.join(',')])),
    Devices: config.devices.map(({ hostPath, containerPath, permissions }) => ({
      ...{ PathOnHost: hostPath, PathInContainer: containerPath, CgroupPermissions: permissions },
    })),
    Ulimits: options.ulimits.map(({ name, soft, hard }) => ({ Name: name, Soft: Number(soft), Hard: Number(hard) })),
    CpuShares: Number(resources?.cpuShares ?? 0n),
    CpuPeriod: Number(resources?.cpuPeriod ?? 0n),
    CpuQuota: Number(resources?.cpuQuota ?? 0n),
    CpusetCpus: resources?.cpusetCpus ?? '',
    CpusetMems: resources?.cpusetMems ?? '',
    Memory: Number(resources?.memoryLimitInBytes ?? 0n),
    MemorySwap: Number(resources?.memorySwapLimitInBytes ?? 0n),
    OomScoreAdj: Number(resources?.oomScoreAdj ?? 0n),
    PidsLimit: Number(options.pidsLimit),
  };
}

interface MountView {
  hostPath: string;
  containerPath: string;
  readonly: boolean;
  propagation: MountPropagation;
}

function mountOf({ volumes }: Containers, { hostPath, containerPath, readonly, propagation }: MountView): object {
  const volume = volumes.nameOf(hostPath);
  return {
    Type: volume === undefined ? 'bind' : 'volume',
    ...(volume === undefined ? {} : { Name: volume, Driver: 'local' }),
    Source: hostPath,
    Destination: containerPath,
    Mode: readonly ? 'ro' : '',
    RW: !readonly,
    Propagation: PROPAGATIONS[propagation],
  };
}

const PROPAGATIONS = {
  [MountPropagation.PROPAGATION_PRIVATE]: 'rprivate',
  [MountPropagation.PROPAGATION_HOST_TO_CONTAINER]: 'rslave',
  [MountPropagation.PROPAGATION_BIDIRECTIONAL]: 'rshared',
} as const;

function configOf(
  containers: Containers,
  { record, config, options }: Container,
  process: ProcessView | undefined,
): object {
  const image = containers.images.find(record.imageId)?.config;
  const hasEntrypoint = config.command.length > 0;
  return {
    Hostname: containers.sandboxes.find(record.sandboxId)?.record.hostname ?? '',
    User: config.linux?.securityContext?.runAsUsername || (image?.user ?? ''),
    Tty: config.tty,
    OpenStdin: config.stdin,
    StdinOnce: config.stdinOnce,
    Env: process?.env ?? [],
    Cmd: hasEntrypoint || config.args.length > 0 ? config.args : (image?.cmd ?? []),
    Entrypoint: hasEntrypoint ? config.command : (image?.entrypoint ?? []),
    Image: config.image?.userSpecifiedImage || config.image?.image,
    WorkingDir: process?.cwd ?? '',
    Labels: config.labels,
    Volumes: Object.fromEntries((image?.volumes ?? []).map(path => [path, {}])),
    StopSignal: signalName(record.stopSignal),
    ...(options.stopTimeoutSeconds === undefined ? {} : { StopTimeout: Number(options.stopTimeoutSeconds) }),
  };
}

function networkOf(containers: Containers, { record }: Container): object {
  const pod = containers.sandboxes.find(record.sandboxId);
  const name = networkName(containers, record.sandboxId);
  const IPAddress = pod?.record.network?.ips[0] ?? '';
  const ports = pod && record.state === 'running' ? portsOf(pod) : [];
  return { IPAddress, Networks: { [name]: { IPAddress } }, Ports: dockerPorts(ports) };
}

/** By port of the container: where on the node it is published. */
export function dockerPorts(ports: readonly PublishedPort[]): Record<string, { HostIp: string; HostPort: string }[]> {
  const byPort: ReturnType<typeof dockerPorts> = {};
  for (const { hostIp, hostPort, containerPort, protocol } of ports)
    (byPort[`${containerPort}/${protocol}`] ??= []).push({ HostIp: hostIp, HostPort: String(hostPort) });
  return byPort;
}

/** What the container's network is called; `none` without one. */
export function networkName({ sandboxes }: Containers, sandboxId: string): string {
  const pod = sandboxes.find(sandboxId)?.record;
  return pod?.ownNetwork === false ? 'host' : (pod?.network?.network.name ?? 'none');
}

export function dockerImage({ id, tags, digests, sizeBytes, config, layers }: Image): object {
  const { healthcheck } = config;
  return {
    Id: id,
    RepoTags: tags.map(tag => familiarForm(parseReference(tag))),
    RepoDigests: digests.map(digest => familiarForm(parseReference(digest))),
    Created: rfc3339(config.createdNs ?? 0n),
    Architecture: config.architecture,
    Os: config.os,
    ...(config.variant === undefined ? {} : { Variant: config.variant }),
    Size: Number(sizeBytes),
    Config: {
      User: config.user,
      ExposedPorts: Object.fromEntries(config.exposedPorts.map(port => [port, {}])),
      Env: config.env,
      Cmd: config.cmd,
      Entrypoint: config.entrypoint,
      Volumes: Object.fromEntries(config.volumes.map(path => [path, {}])),
      WorkingDir: config.workingDir,
      Labels: config.labels,
      StopSignal: config.stopSignal ?? '',
      ...(healthcheck ? { Healthcheck: { Test: healthcheck.test, Retries: healthcheck.retries } } : {}),
    },
    RootFS: { Type: 'layers', Layers: layers.map(({ diffId }) => diffId) },
  };
}

/** As Go writes it; what has not been is the year 1. */
function rfc3339(atNs: bigint): string {
  if (atNs === 0n) return '0001-01-01T00:00:00Z';
  const nanoseconds = String(atNs % 1_000_000_000n).padStart(9, '0');
  return `${new Date(Number(atNs / 1_000_000n)).toISOString().slice(0, 19)}.${nanoseconds}Z`;
}
