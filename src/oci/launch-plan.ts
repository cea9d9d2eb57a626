import type { InnerOp, LaunchPlan, OuterOp } from '../native/plan-ops';
import { capabilityMask } from './capabilities';
import { CLONE, MOUNT_FLAGS, MS, ROOT_FLAGS } from './linux';
import { holdOps, mountOp } from './mount-ops';
import type { CapabilitySets, MountSpec, ProcessSpec, Spec, UserRequest } from './spec';

/** Where the container's process is to be put; paths on the host. */
export interface CgroupPlacement {
  v2Directory: string | undefined;
  v1Tasks: readonly string[];
  killFile: string | undefined;
}

/** The container's root file system, mounted by init in its own mount namespace. */
export interface Rootfs {
  /** Lower directories, top first. */
  lowers: readonly string[];
  upper: string;
  work: string;
  /** An empty directory to mount on. */
  stage: string;
  /** The writable layer need not survive a power cut: no syncing for its sake. */
  isVolatile: boolean;
}

export interface LogTarget {
  path: string;
  /** Longest line in bytes before it is split into parts; 0 for the default of 16 KiB. */
  maxLineBytes: number;
}

/** Spec → plan: from a fresh monitor to the container's execve. Pure. */
export function launchPlan(
  spec: Spec,
  rootfs: Rootfs,
  cgroup: CgroupPlacement,
  log: LogTarget | undefined,
  keepStdinOpen: boolean,
): LaunchPlan {
  const joined = spec.linux.namespaces.filter(ns => ns.path !== undefined && ns.type !== 'pid');
  const pid = spec.linux.namespaces.find(ns => ns.type === 'pid');
  const outer: OuterOp[] = [
    ...cgroupOps(cgroup),
    { op: 'CLONE_FLAGS', flags: BigInt(CLONE.newns | (pid && pid.path === undefined ? CLONE.newpid : 0)) },
    ...(pid?.path === undefined ? [] : [{ op: 'JOIN_PID', path: pid.path } as const]),
    ...(log ? [{ op: 'LOG', path: log.path, maxLine: log.maxLineBytes } as const] : []),
    { op: 'STDIN', mode: keepStdinOpen ? 1 : 0 },
  ];
  const inner: InnerOp[] = [
    { op: 'UMASK', mask: 0 },
    { op: 'OOM_SCORE_ADJ', value: spec.process.oomScoreAdj },
    ...joined.map(ns => ({ op: 'SETNS', type: NAMESPACE_FLAG[ns.type], path: ns.path ?? '' }) as const),
    ...spec.mounts.flatMap(holdOps),
    { op: 'PROPAGATION', flags: MS.rec | MS.slave, path: '/' },
    rootOverlay(spec, rootfs),
    ...spec.mounts.flatMap(mount => [mountOp(mount), ...(isOwnDev(mount) ? deviceOps(spec) : [])]),
    ...spec.linux.maskedPaths.map(path => ({ op: 'MASK', path }) as const),
    ...spec.linux.readonlyPaths.map(path => ({ op: 'READONLY', path }) as const),
    ...(spec.root.readonly ? [{ op: 'ROOT_READONLY' } as const] : []),
    { op: 'PIVOT_ROOT', propagation: MS.private },
    lookupUser(spec.process.user),
    { op: 'UNSHARE', flags: CLONE.newcgroup },
    { op: 'AWAIT_GO' },
    ...becomeOps(spec.process),
  ];
  return { outer, inner };
}

/** The root file system, mounted at its stage. */
export function rootOverlay(spec: Spec, rootfs: Rootfs): InnerOp {
  return {
    op: 'ROOT_OVERLAY',
    stage: rootfs.stage,
    upper: rootfs.upper,
    work: rootfs.work,
    flags: (rootfs.isVolatile ? ROOT_FLAGS.volatile : 0) | (spec.root.nodev ? ROOT_FLAGS.nodev : 0),
    lowers: rootfs.lowers,
  };
}

/** One more process in a running container: the joined namespaces are those of the pidfd at descriptor 5. */
export function execPlan(process: ProcessSpec, cgroup: CgroupPlacement, hasInput: boolean): LaunchPlan {
  const types = CLONE.newns | CLONE.newcgroup | CLONE.newuts | CLONE.newipc | CLONE.newpid | CLONE.newnet;
  return {
    outer: [
      // First: what carries the output must not be in the container's namespaces.
      { op: 'STDIN', mode: hasInput ? 1 : 0 },
      ...cgroupOps({ ...cgroup, killFile: undefined }),
      // On the host's /proc, for the child to inherit: the container's may be anything.
      { op: 'OOM_SCORE_ADJ', value: process.oomScoreAdj },
      { op: 'JOIN_PIDFD', fd: 5, types },
    ],
    inner: [{ op: 'UMASK', mask: 0 }, lookupUser(process.user), ...becomeOps(process)],
  };
}

/** A /dev that the request brings is taken as it is. */
function isOwnDev({ destination, type }: MountSpec): boolean {
  return destination === '/dev' && type === 'tmpfs';
}

const NAMESPACE_FLAG = {
  network: CLONE.newnet,
  ipc: CLONE.newipc,
  uts: CLONE.newuts,
  pid: CLONE.newpid,
  mount: CLONE.newns,
  cgroup: CLONE.newcgroup,
} as const;

/** Where the process is to be born, and what ends all that it leaves. */
export function cgroupOps(cgroup: CgroupPlacement): OuterOp[] {
  return [
    ...(cgroup.v2Directory === undefined ? [] : [{ op: 'CGROUP_V2', dir: cgroup.v2Directory } as const]),
    ...cgroup.v1Tasks.map(tasks => ({ op: 'CGROUP_V1', tasks }) as const),
    ...(cgroup.killFile === undefined ? [] : [{ op: 'CGROUP_KILL', file: cgroup.killFile } as const]),
  ];
}

/**
 * /dev right after its tmpfs: the host's own nodes, bound one by one, and the
 * links that programs expect. Its tmpfs, the root and the volumes are nodev, so
 * that a node which a container or its image made opens nothing.
 */
function deviceOps(spec: Spec): InnerOp[] {
  const links: [string, string][] = [
    ['/proc/self/fd', '/dev/fd'],
    ['/proc/self/fd/0', '/dev/stdin'],
    ['/proc/self/fd/1', '/dev/stdout'],
    ['/proc/self/fd/2', '/dev/stderr'],
    ['pts/ptmx', '/dev/ptmx'],
  ];
  return [
    ...spec.linux.devices.map(({ path }) => deviceBind(path)),
    ...links.map(([target, path]) => ({ op: 'SYMLINK', target, path }) as const),
  ];
}

function deviceBind(path: string): InnerOp {
  const flags = MOUNT_FLAGS.targetNoLinks | MOUNT_FLAGS.sourceNoLinks;
  return { op: 'MOUNT_BIND', source: path, target: path, set: 0n, clear: 0n, propagation: MS.private, flags };
}

/** Looks the user up in the image. */
export function lookupUser(request: UserRequest): InnerOp {
  const groups = Buffer.alloc(request.supplementalGroups.length * 4);
  request.supplementalGroups.forEach((gid, i) => groups.writeUInt32LE(gid, i * 4));
  return {
    op: 'LOOKUP_USER',
    user: request.user,
    group: request.group,
    hasGroup: request.gid === undefined ? 0 : 1,
    gid: request.gid ?? 0,
    merge: request.mergeImageGroups ? 1 : 0,
    groups,
  };
}

/** The last steps, the same for a container's first process and for an exec. */
function becomeOps(process: ProcessSpec): InnerOp[] {
  return [
    { op: 'SETSID' },
    { op: 'UMASK', mask: process.umask },
    { op: 'CWD', path: process.cwd },
    identity(process.capabilities),
    ...(process.noNewPrivileges ? [{ op: 'NO_NEW_PRIVS' } as const] : []),
    { op: 'EXEC', candidates: candidates(process), argv: process.args, envp: process.env, addHome: 1 },
  ];
}

function identity(sets: CapabilitySets): InnerOp {
  return {
    op: 'IDENTITY',
    bounding: capabilityMask(sets.bounding),
    effective: capabilityMask(sets.effective),
    permitted: capabilityMask(sets.permitted),
    inheritable: capabilityMask(sets.inheritable),
    ambient: capabilityMask(sets.ambient),
  };
}

/** The paths that execvp(3) would try, by the PATH that the process gets. */
function candidates(process: ProcessSpec): string[] {
  const command = process.args[0] ?? '';
  if (command.includes('/')) return [command];
  const entry = process.env.find(line => line.subarray(0, 5).toString('latin1') === 'PATH=');
  const dirs = (entry?.subarray(5).toString('utf8') ?? '').split(':');
  return dirs.map(dir => (dir === '' ? `./${command}` : `${dir}/${command}`));
}
