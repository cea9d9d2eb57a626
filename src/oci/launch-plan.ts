import type { InnerOp, LaunchPlan, OuterOp } from '../native/plan-ops';
import { capabilityMask } from './capabilities';
import { createHookOps, startHookOps, type HookState, type HookView } from './hooks';
import { CLONE, MS, ROOT_FLAGS } from './linux';
import { cgroupDirectoryOps } from './cgroup-mounts';
import { deviceOpsElsewhere, devOps, holdDeviceOps } from './devices';
import { holdImageOps, holdOps, mountOps, shareOps } from './mount-ops';
import type { SeccompFilter } from './seccomp/compile';
import type { CapabilitySets, IdMappings, MountSpec, ProcessSpec, RlimitSpec, Spec, UserRequest } from './spec';
import { enterUserNamespace } from './user-namespace';

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

/** False: /dev/null. True: held open as long as the container lives. `once`: closed when its first client leaves. */
export type KeepStdinOpen = boolean | 'once';

/** Spec → plan: from a fresh monitor to the container's execve. Pure. */
export function launchPlan(
  spec: Spec,
  rootfs: Rootfs,
  cgroup: CgroupPlacement,
  log: LogTarget | undefined,
  keepStdinOpen: KeepStdinOpen,
  filter?: SeccompFilter,
  hooks?: { state: HookState; view?: HookView },
): LaunchPlan {
  const joined = spec.linux.namespaces.filter(ns => ns.path !== undefined && ns.type !== 'pid' && ns.type !== 'user');
  const pid = spec.linux.namespaces.find(ns => ns.type === 'pid');
  const outer: OuterOp[] = [
    ...cgroupOps(cgroup),
    { op: 'CLONE_FLAGS', flags: BigInt(CLONE.newns | (pid && pid.path === undefined ? CLONE.newpid : 0)) },
    ...(pid?.path === undefined ? [] : [{ op: 'JOIN_PID', path: pid.path } as const]),
    ...(log ? [{ op: 'LOG', path: log.path, maxLine: log.maxLineBytes } as const] : []),
    { op: 'STDIN', mode: stdinMode(keepStdinOpen, spec.process) },
  ];
  const inner: InnerOp[] = [
    { op: 'UMASK', mask: 0 },
    keyring(spec.process),
    ...rootLabel(spec),
    { op: 'OOM_SCORE_ADJ', value: spec.process.oomScoreAdj },
    ...joined.map(ns => ({ op: 'SETNS', type: NAMESPACE_FLAG[ns.type], path: ns.path ?? '' }) as const),
    ...queueLabel(spec),
    ...spec.mounts.flatMap(mount => holdOps(mount, spec.mounts)),
    { op: 'PROPAGATION', flags: MS.rec | MS.slave, path: '/' },
    ...spec.mounts.flatMap(mount => holdImageOps(mount, rootfs.stage)),
    ...holdDeviceOps(spec, rootfs.stage),
    // Before /sys/fs/cgroup is mounted, which shows what is below the namespace's root.
    ...(spec.linux.namespaces.some(ns => ns.type === 'cgroup')
      ? [{ op: 'UNSHARE', flags: CLONE.newcgroup } as const]
      : []),
    rootOverlay(spec, rootfs),
    ...spec.mounts.flatMap(mount => [
      ...mountOps(mount, spec.mounts),
      ...(isOwnDev(mount) ? devOps(spec) : []),
      ...cgroupDirectoryOps(mount, spec.mounts),
      // At once: a volume may come to lie over it later.
      ...(mount.destination === '/dev/pts' ? terminalOps(spec.process, true) : []),
    ]),
    ...deviceOpsElsewhere(spec),
    ...shareOps(spec.mounts),
    // Before what they change is hidden or made read-only.
    ...createHookOps(spec.hooks, hooks?.state),
    ...spec.linux.maskedPaths.map(path => ({ op: 'MASK', path }) as const),
    ...spec.linux.readonlyPaths.map(path => ({ op: 'READONLY', path }) as const),
    ...(spec.root.readonly ? [{ op: 'ROOT_READONLY' } as const] : []),
    { op: 'PIVOT_ROOT', propagation: MS.private },
    lookupUser(spec.process.user),
    ...(spec.process.groupNames ?? []).map(name => ({ op: 'ADD_GROUP', name }) as const),
    { op: 'AWAIT_GO' },
    ...startHookOps(spec.hooks, hooks?.state),
    ...becomeOps(spec.process, filter, spec.process.init ? [{ op: 'FIRST_PROCESS' }] : []),
  ];
  return enterUserNamespace({ outer, inner }, spec, hooks);
}

/** The root file system, mounted at its stage. */
export function rootOverlay(spec: { root: Pick<Spec['root'], 'nodev'> }, rootfs: Rootfs): InnerOp {
  return {
    op: 'ROOT_OVERLAY',
    stage: rootfs.stage,
    upper: rootfs.upper,
    work: rootfs.work,
    flags: (rootfs.isVolatile ? ROOT_FLAGS.volatile : 0) | (spec.root.nodev ? ROOT_FLAGS.nodev : 0),
    lowers: rootfs.lowers,
  };
}

/** Before all that is made for the root, which has the label, too. */
export function rootLabel({ linux: { mountLabel } }: { linux: Pick<Spec['linux'], 'mountLabel'> }): InnerOp[] {
  return mountLabel === undefined ? [] : [{ op: 'ROOT_LABEL', label: mountLabel }];
}

function queueLabel({ mounts }: Spec): InnerOp[] {
  const label = mounts.find(({ type }) => type === 'mqueue')?.context;
  return label === undefined ? [] : [{ op: 'QUEUE_LABEL', label }];
}

/** As the host's root: what a user namespace's makes counts against a small number of keys. */
function keyring({ selinuxLabel = '' }: ProcessSpec): InnerOp & OuterOp {
  return { op: 'KEYRING', label: selinuxLabel };
}

/** One more process in a running container: the joined namespaces are those of the pidfd at descriptor 5. */
export function execPlan(
  process: ProcessSpec,
  cgroup: CgroupPlacement,
  hasInput: boolean,
  filter?: SeccompFilter,
  userns?: IdMappings,
  stateDir?: string,
): LaunchPlan {
  const all = CLONE.newns | CLONE.newcgroup | CLONE.newuts | CLONE.newipc | CLONE.newpid | CLONE.newnet;
  const types = all | (userns ? CLONE.newuser : 0);
  return {
    outer: [
      ...(stateDir === undefined ? [] : [{ op: 'ORPHAN', stateDir } as const]),
      // First: what carries the output must not be in the container's namespaces.
      { op: 'STDIN', mode: stdinMode(hasInput, process) },
      keyring(process),
      ...cgroupOps({ ...cgroup, killFile: undefined }),
      // On the host's /proc, for the child to inherit: the container's may be anything.
      { op: 'OOM_SCORE_ADJ', value: process.oomScoreAdj },
      ...(userns ? [{ op: 'STDIO_OWNER', uid: userns.uid.first, gid: userns.gid.first } as const] : []),
      { op: 'JOIN_PIDFD', fd: 5, types },
    ],
    inner: [
      { op: 'UMASK', mask: 0 },
      ...(userns ? [{ op: 'USERNS_ROOT', uids: userns.uid.count, gids: userns.gid.count } as const] : []),
      ...terminalOps(process, false),
      lookupUser(process.user),
      ...becomeOps(process, filter),
    ],
  };
}

/** OP_STDIN's word for it. */
export function stdinMode(isOpen: KeepStdinOpen, process: ProcessSpec): number {
  return (isOpen ? 1 : 0) | (isOpen === 'once' ? 2 : 0) | (process.terminal ? 4 : 0);
}

function terminalOps({ terminal, consoleSize }: ProcessSpec, isConsole: boolean): InnerOp[] {
  if (!terminal) return [];
  const { height = 0, width = 0 } = consoleSize ?? {};
  return [{ op: 'TERMINAL', console: isConsole ? 1 : 0, rows: height, columns: width }];
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
  user: CLONE.newuser,
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

/**
 * The last steps, the same for a container's first process and for an exec. To
 * load a filter takes CAP_SYS_ADMIN or no_new_privs: with the latter it is the
 * last thing, without it comes before the capabilities go.
 */
function becomeOps(process: ProcessSpec, filter: SeccompFilter | undefined, last: InnerOp[] = []): InnerOp[] {
  const seccomp: InnerOp[] = filter ? [{ op: 'SECCOMP', flags: filter.flags, filter: filter.program }] : [];
  const { bounding } = process.capabilities;
  return [
    ...(process.rlimits ?? []).map(rlimitOp),
    { op: 'SETSID' },
    ...(process.terminal ? [{ op: 'CONTROLLING_TERMINAL' } as const] : []),
    { op: 'UMASK', mask: process.umask },
    { op: 'CWD', path: process.cwd },
    ...labelOps(process),
    { op: 'IDENTITY', bounding: capabilityMask(bounding) },
    ...(process.noNewPrivileges
      ? [capabilities(process.capabilities), { op: 'NO_NEW_PRIVS' } as const, ...seccomp]
      : [...seccomp, capabilities(process.capabilities)]),
    ...last,
    { op: 'EXEC', candidates: candidates(process), argv: process.args, envp: process.env, addHome: 1 },
  ];
}

function rlimitOp({ resource, soft, hard }: RlimitSpec): InnerOp {
  const value = (limit: number) => (limit === -1 ? RLIM_INFINITY : BigInt(limit));
  return { op: 'RLIMIT', resource, soft: value(soft), hard: value(hard) };
}

const RLIM_INFINITY = 2n ** 64n - 1n;

/** While the process may still mount a procfs of its own, which is where they are written. */
function labelOps({ apparmorProfile, selinuxLabel }: ProcessSpec): InnerOp[] {
  return [
    ...(apparmorProfile === undefined
      ? []
      : [{ op: 'EXEC_LABEL', attribute: 'apparmor/exec', label: `exec ${apparmorProfile}` } as const]),
    ...(selinuxLabel === undefined ? [] : [{ op: 'EXEC_LABEL', attribute: 'exec', label: selinuxLabel } as const]),
  ];
}

function capabilities(sets: CapabilitySets): InnerOp {
  return {
    op: 'CAPABILITIES',
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
