import { BerthError } from '../base/errors';
import { SupplementalGroupsPolicy, type ContainerConfig, type LinuxContainerSecurityContext } from '../cri';
import { capabilitySets } from './capabilities';
import { containerDevices, deviceRules } from './devices';
import type { HostFacts } from './host-facts';
import { MASKED_PATHS, pathsOf, READONLY_PATHS } from './masked-paths';
import { containerMounts } from './mounts';
import { oomScoreAdjOf, resourcesSpec } from './resources';
import type { NamespaceSpec, RlimitSpec, Spec, UserRequest } from './spec';
import { idText, parseUser } from './user';
import { withUserNamespace, type PodUserNamespace } from './user-namespace';

/** What of an image's config decides how its container runs. */
export interface ImageDefaults {
  env: readonly string[];
  entrypoint: readonly string[];
  cmd: readonly string[];
  workingDir: string;
  user: string;
}

/** The pod's part: pinned namespaces and files on the host. */
export interface PodFacts {
  hostname: string;
  /** Absent: the host's. */
  networkPath: string | undefined;
  ipcPath: string | undefined;
  utsPath: string | undefined;
  /** The namespace of the pod's init, or of the container to debug; absent with `hostPid` false: a new one. */
  pidPath: string | undefined;
  hostPid: boolean;
  /** Host path of the tmpfs that the pod shares as /dev/shm. */
  shmPath: string;
  /** Container path to host path: /etc/hosts, /etc/hostname, /etc/resolv.conf. */
  files: Readonly<Record<string, string>>;
  /** Missing sources of mounts become directories, as the kubelet's hostPath volumes need it. */
  makeMountSources: boolean;
  cgroupPath: string;
  /** Absent: the host's. */
  userns?: PodUserNamespace | undefined;
  /** Processes and threads that a container may have; absent for no limit of its own. */
  pidsLimit?: bigint | undefined;
  /** All limits of its processes; absent: those of whoever starts it. */
  rlimits?: readonly RlimitSpec[];
  /** Its cgroup refuses devices that are not the container's; without, no node that it makes may open one. */
  hasDeviceControl?: boolean;
}

/** CRI config + image config + pod → OCI runtime spec. Pure; throws `invalid_argument` and `unimplemented`. */
export function containerSpec(config: ContainerConfig, image: ImageDefaults, pod: PodFacts, host: HostFacts): Spec {
  refuseUnsupported(config);
  const security = config.linux?.securityContext;
  const isPrivileged = security?.privileged ?? false;
  const capabilities = security?.capabilities;
  const pathRule = { isPrivileged, hasUserNamespace: pod.userns !== undefined };
  const spec: Spec = {
    process: {
      args: commandLine(config, image),
      env: environment(config, image, pod.hostname, host.cdi.env),
      cwd: workingDirectory(config, image),
      ...(config.tty ? { terminal: true } : {}),
      user: userRequest(security, image.user, host.cdi.groups),
      capabilities: capabilitySets(
        {
          add: capabilities?.addCapabilities ?? [],
          drop: capabilities?.dropCapabilities ?? [],
          ambient: capabilities?.addAmbientCapabilities ?? [],
        },
        isPrivileged,
      ),
      noNewPrivileges: security?.noNewPrivs ?? false,
      oomScoreAdj: oomScoreAdjOf(config.linux?.resources),
      umask: 0o022,
      ...(pod.rlimits ? { rlimits: [...pod.rlimits] } : {}),
    },
    root: { readonly: security?.readonlyRootfs ?? false, nodev: !isPrivileged && !pod.hasDeviceControl },
    hostname: pod.hostname,
    mounts: containerMounts(config.mounts, {
      ...pod,
      isPrivileged,
      host,
      isRootReadonly: security?.readonlyRootfs ?? false,
    }),
    linux: {
      namespaces: namespaces(pod, isPrivileged),
      devices: containerDevices(host, isPrivileged),
      resources: {
        ...resourcesSpec(config.linux?.resources),
        ...(pod.pidsLimit === undefined ? {} : { pids: { limit: pod.pidsLimit } }),
        devices: deviceRules(host.devices, isPrivileged),
      },
      maskedPaths: pathsOf(security?.maskedPaths ?? [], [...MASKED_PATHS, ...host.thermalPaths], pathRule),
      readonlyPaths: pathsOf(security?.readonlyPaths ?? [], READONLY_PATHS, pathRule),
      cgroupsPath: pod.cgroupPath,
    },
    ...(Object.keys(host.cdi.hooks).length > 0 ? { hooks: host.cdi.hooks } : {}),
  };
  return withUserNamespace(spec, pod.userns);
}

function refuseUnsupported({ windows }: ContainerConfig): void {
  if (!windows) return;
  throw new BerthError(
    'unimplemented',
    'this version of berth does not support windows settings: it runs Linux containers only',
  );
}

function commandLine(config: ContainerConfig, image: ImageDefaults): string[] {
  const hasCommand = config.command.length > 0;
  const entrypoint = hasCommand ? config.command : image.entrypoint;
  const args = config.args.length > 0 || hasCommand ? config.args : image.cmd;
  const line = [...entrypoint, ...args];
  if (line.length === 0 || line[0] === '') {
    throw new BerthError('invalid_argument', 'no command: neither the request nor the image says what to run', {
      hint: 'give a command',
    });
  }
  return line;
}

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** What a terminal is without further word: all of them understand this much. */
export const DEFAULT_TERM = 'xterm';

/** The image's entries, overridden by key; values are bytes. */
function environment(
  config: ContainerConfig,
  image: ImageDefaults,
  hostname: string,
  ofDevices: readonly string[],
): Buffer[] {
  const entries = new Map<string, Buffer>();
  const set = (key: string, value: Buffer) => {
    // A key that was there keeps its place and takes the new value.
    entries.set(key, Buffer.concat([Buffer.from(`${key}=`), value]));
  };
  set('PATH', Buffer.from(DEFAULT_PATH));
  set('HOSTNAME', Buffer.from(hostname));
  if (config.tty) set('TERM', Buffer.from(DEFAULT_TERM));
  const setLine = (line: string) => {
    const [key = '', ...rest] = line.split('=');
    if (key !== '') set(key, Buffer.from(rest.join('=')));
  };
  image.env.forEach(setLine);
  for (const { key, value } of config.envs) {
    if (key === '' || key.includes('=') || key.includes('\0') || value.includes(0)) {
      throw new BerthError(
        'invalid_argument',
        `environment variable ${JSON.stringify(key)}: a key is not empty and has no "="; neither part has a NUL`,
      );
    }
    set(key, value);
  }
  ofDevices.forEach(setLine);
  return [...entries.values()];
}

function workingDirectory(config: ContainerConfig, image: ImageDefaults): string {
  const dir = config.workingDir || image.workingDir || '/';
  return dir.startsWith('/') ? dir : `/${dir}`;
}

function userRequest(
  security: LinuxContainerSecurityContext | undefined,
  imageUser: string,
  ofDevices: readonly number[],
): UserRequest {
  const named = security?.runAsUser
    ? { user: idText(security.runAsUser.value, 'run_as_user'), group: '' }
    : security?.runAsUsername
      ? parseUser(security.runAsUsername, 'run_as_username')
      : undefined;
  if (security?.runAsGroup && !named) {
    throw new BerthError('invalid_argument', 'run_as_group is set without run_as_user or run_as_username', {
      hint: 'set a user, too',
    });
  }
  const { user, group } = named ?? parseUser(imageUser, "the image's USER");
  return {
    user,
    group,
    ...(security?.runAsGroup ? { gid: Number(idText(security.runAsGroup.value, 'run_as_group')) } : {}),
    supplementalGroups: [
      ...(security?.supplementalGroups ?? []).map(gid => Number(idText(gid, 'supplemental group'))),
      ...ofDevices,
    ],
    mergeImageGroups: security?.supplementalGroupsPolicy !== SupplementalGroupsPolicy.Strict,
  };
}

function namespaces(pod: PodFacts, isPrivileged: boolean): NamespaceSpec[] {
  const list: NamespaceSpec[] = [{ type: 'mount' }];
  // A privileged container sees the host's cgroups, as with other runtimes: what runs containers in one needs it.
  if (!isPrivileged) list.push({ type: 'cgroup' });
  if (pod.networkPath !== undefined) list.push({ type: 'network', path: pod.networkPath });
  if (pod.ipcPath !== undefined) list.push({ type: 'ipc', path: pod.ipcPath });
  if (pod.utsPath !== undefined) list.push({ type: 'uts', path: pod.utsPath });
  if (pod.pidPath !== undefined) list.push({ type: 'pid', path: pod.pidPath });
  else if (!pod.hostPid) list.push({ type: 'pid' });
  return list;
}
