/** What a person asks for, in the words of the CRI: one way for all containers. */
import { randomUUID } from 'node:crypto';
import { BerthError } from '../base/errors';
import {
  ContainerConfig,
  LinuxContainerResources,
  MountPropagation,
  NamespaceMode,
  PodSandboxConfig,
  SecurityProfile_ProfileType as ProfileType,
  type LinuxContainerSecurityContext,
  type SecurityProfile,
} from '../cri';
import type { CreateRequest, Mount } from '../cri/generated/berth/v1/berth';
import { RunOptions } from '../cri/generated/berth/v1/run';
import { parsePlatform } from '../image/platform';
import { criSignalOf, signalNumber } from '../oci/signals';

/** The options of a request, all of them. */
export function optionsOf({ options }: CreateRequest): RunOptions {
  return options ?? RunOptions.fromPartial({});
}

export function podConfig(request: CreateRequest, name: string, ids: IdRange | undefined): PodSandboxConfig {
  const options = optionsOf(request);
  const { dns, dnsSearch, dnsOptions, sysctls, cgroupParent, privileged, annotations } = options;
  const hasDns = dns.length + dnsSearch.length + dnsOptions.length > 0;
  return PodSandboxConfig.fromPartial({
    metadata: { name, uid: randomUUID(), namespace: 'berth', attempt: 0 },
    hostname: request.hostname,
    labels: request.labels,
    annotations,
    ...(hasDns ? { dnsConfig: { servers: dns, searches: dnsSearch, options: dnsOptions } } : {}),
    linux: {
      cgroupParent,
      sysctls,
      securityContext: { namespaceOptions: namespaces(request, options, ids), privileged },
    },
  });
}

/** `command` is the entrypoint that replaces the image's. */
export function containerConfig(
  request: CreateRequest,
  name: string,
  imageId: string,
  ids: IdRange | undefined,
): ContainerConfig {
  const options = optionsOf(request);
  return ContainerConfig.fromPartial({
    metadata: { name, attempt: 0 },
    image: { image: imageId, userSpecifiedImage: request.image },
    ...commandOf(request),
    workingDir: request.workingDir,
    envs: request.env,
    mounts: request.mounts.map(mountOf),
    devices: options.devices.map(({ hostPath, containerPath, permissions }) => ({
      ...{ hostPath, containerPath: containerPath || hostPath, permissions: permissions || 'rwm' },
    })),
    CDIDevices: options.cdiDevices.map(device => ({ name: device })),
    labels: request.labels,
    annotations: options.annotations,
    tty: request.tty,
    stdin: request.stdin,
    stdinOnce: request.stdinOnce,
    ...stopSignalOf(options.stopSignal),
    linux: { resources: resourcesOf(options), securityContext: securityOf(request, options, ids) },
  });
}

function commandOf({ entrypoint, args }: CreateRequest): { command: string[]; args: string[] } {
  if (entrypoint === undefined) return { command: [], args };
  if (entrypoint !== '') return { command: [entrypoint], args };
  // Taken away: the first argument is the command.
  if (args.length > 0) return { command: args.slice(0, 1), args: args.slice(1) };
  throw new BerthError('invalid_argument', 'no command: the entrypoint is taken away and none is given instead', {
    hint: 'give a command',
  });
}

function mountOf({ source, target, readonly, propagation, relabel }: Mount) {
  const found = Object.hasOwn(PROPAGATIONS, propagation) ? PROPAGATIONS[propagation] : undefined;
  if (found !== undefined)
    return { hostPath: source, containerPath: target, readonly, propagation: found, selinuxRelabel: relabel };
  throw new BerthError(
    'invalid_argument',
    `mount at ${target}: propagation ${JSON.stringify(propagation)} is not known`,
    {
      hint: 'it is private, rprivate, slave, rslave, shared or rshared',
    },
  );
}

const PROPAGATIONS: Readonly<Record<string, MountPropagation>> = {
  '': MountPropagation.PROPAGATION_PRIVATE,
  private: MountPropagation.PROPAGATION_PRIVATE,
  rprivate: MountPropagation.PROPAGATION_PRIVATE,
  slave: MountPropagation.PROPAGATION_HOST_TO_CONTAINER,
  rslave: MountPropagation.PROPAGATION_HOST_TO_CONTAINER,
  shared: MountPropagation.PROPAGATION_BIDIRECTIONAL,
  rshared: MountPropagation.PROPAGATION_BIDIRECTIONAL,
};

function stopSignalOf(text: string) {
  if (text === '') return {};
  const number = signalNumber(text);
  if (number !== undefined) return { stopSignal: criSignalOf(number) };
  throw new BerthError('invalid_argument', `stop signal ${JSON.stringify(text)} is not a signal`, {
    hint: 'signals look like SIGTERM, TERM, 15 or SIGRTMIN+3',
  });
}

/** Docker's period, when only a quota is given. */
const PERIOD_MICROS = 100_000n;

function resourcesOf(options: RunOptions): LinuxContainerResources {
  const { cpuQuotaMicros, cpuPeriodMicros } = options;
  return LinuxContainerResources.fromPartial({
    cpuQuota: cpuQuotaMicros,
    cpuPeriod: cpuPeriodMicros || (cpuQuotaMicros === 0n ? 0n : PERIOD_MICROS),
    cpuShares: options.cpuShares,
    cpusetCpus: options.cpusetCpus,
    cpusetMems: options.cpusetMems,
    memoryLimitInBytes: options.memoryBytes,
    memorySwapLimitInBytes: options.memorySwapBytes,
    oomScoreAdj: options.oomScoreAdj,
  });
}

/** What is wrong whatever image it is. */
export function assertValidOptions(request: CreateRequest): void {
  const options = optionsOf(request);
  const modes = { ipc: options.ipcMode, pid: options.pidMode, uts: options.utsMode };
  for (const [kind, mode] of Object.entries(modes)) {
    if (['', 'host', 'private', 'shareable'].includes(mode)) continue;
    throw new BerthError('invalid_argument', `--${kind} ${mode} is not known`, { hint: 'it is host or private' });
  }
  if (options.platform !== '') parsePlatform(options.platform);
  if ((options.stopTimeoutSeconds ?? 0n) < 0n) {
    throw new BerthError('invalid_argument', `--stop-timeout ${options.stopTimeoutSeconds} is negative`);
  }
  const { name = 'no', maximumRetries = 0 } = options.restart ?? {};
  if (name !== 'no' && request.autoRemove) {
    throw new BerthError('invalid_argument', `--rm and --restart ${name} exclude each other`, {
      hint: 'leave one out',
    });
  }
  if (maximumRetries < 0 || (maximumRetries > 0 && name !== 'on-failure')) {
    throw new BerthError(
      'invalid_argument',
      `--restart ${name}:${maximumRetries}: only on-failure has a number of retries`,
    );
  }
  containerConfig(request, 'x', 'x', undefined);
}

/* ---- security ---- */

function securityOf(request: CreateRequest, options: RunOptions, ids: IdRange | undefined) {
  const { privileged, readOnly, capAdd, capDrop, groupAdd } = options;
  const base: Partial<LinuxContainerSecurityContext> = {
    namespaceOptions: namespaces(request, options, ids),
    runAsUsername: request.user,
    privileged,
    readonlyRootfs: readOnly,
    capabilities: { addCapabilities: capAdd, dropCapabilities: capDrop, addAmbientCapabilities: [] },
    supplementalGroups: groupAdd.filter(group => /^\d+$/.test(group)).map(BigInt),
    noNewPrivs: false,
    seccomp: { profileType: ProfileType.RuntimeDefault, localhostRef: '' },
  };
  return options.securityOpts.reduce(withSecurityOpt, base);
}

/** One `--security-opt`; what a privileged container is free of it stays free of. */
function withSecurityOpt(
  security: Partial<LinuxContainerSecurityContext>,
  option: string,
): Partial<LinuxContainerSecurityContext> {
  const [, key = '', value = ''] = /^([a-z-]+)(?:[=:](.*))?$/.exec(option) ?? [];
  switch (key) {
    case 'no-new-privileges':
      return { ...security, noNewPrivs: value !== 'false' };
    case 'seccomp':
      return { ...security, seccomp: profile(value, option) };
    case 'apparmor':
      return { ...security, apparmor: profile(value, option) };
    case 'systempaths':
      if (value === 'unconfined') return security; // the spec's to show
      break;
    case 'label':
      return { ...security, selinuxOptions: withLabel(security.selinuxOptions, value, option) };
  }
  throw new BerthError('invalid_argument', `--security-opt ${option} is not known`, {
    hint: 'there are no-new-privileges, seccomp=, apparmor=, label= and systempaths=unconfined',
  });
}

function profile(value: string, option: string): SecurityProfile {
  if (value === 'unconfined') return { profileType: ProfileType.Unconfined, localhostRef: '' };
  if (['builtin', 'runtime/default'].includes(value))
    return { profileType: ProfileType.RuntimeDefault, localhostRef: '' };
  if (value !== '') return { profileType: ProfileType.Localhost, localhostRef: value };
  throw new BerthError('invalid_argument', `--security-opt ${option} names no profile`, { hint: 'or unconfined' });
}

function withLabel(before: LinuxContainerSecurityContext['selinuxOptions'], value: string, option: string) {
  const none = { user: '', role: '', type: '', level: '' };
  if (value === 'disable') return { ...none, type: 'spc_t' };
  const [, key = '', text = ''] = /^(user|role|type|level):(.+)$/.exec(value) ?? [];
  if (key !== '') return { ...none, ...before, [key]: text };
  throw new BerthError('invalid_argument', `--security-opt ${option} is not known`, {
    hint: 'labels are label=disable, label=user:, role:, type: or level:',
  });
}

/* ---- namespaces ---- */

/** Ids of the node that a container's user namespace has. */
export interface IdRange {
  first: number;
  count: number;
}

/** Without a network of its own a pod has the loopback device only. */
function namespaces({ network }: CreateRequest, { pidMode, ipcMode }: RunOptions, ids: IdRange | undefined) {
  const mapping = ids && [{ hostId: ids.first, containerId: 0, length: ids.count }];
  return {
    network: network === 'host' ? NamespaceMode.NODE : NamespaceMode.POD,
    pid: pidMode === 'host' ? NamespaceMode.NODE : NamespaceMode.CONTAINER,
    ipc: ipcMode === 'host' ? NamespaceMode.NODE : NamespaceMode.POD,
    targetId: '',
    usernsOptions: mapping && { mode: NamespaceMode.POD, uids: mapping, gids: mapping },
  };
}
