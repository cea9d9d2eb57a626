/**
 * The launch plan's operations and the control messages, as TypeScript sees
 * them. `native/lib/plan.def` and `native/lib/wire.def` say the same for C; a
 * unit test holds the two sides together.
 */

export type FieldType = 'u32' | 'u64' | 'str' | 'strs' | 'bytes';

export interface FieldValues {
  u32: number;
  u64: bigint;
  /** A string is written as UTF-8; a Buffer as it is. Neither may hold a NUL. */
  str: string | Buffer;
  strs: readonly (string | Buffer)[];
  bytes: Buffer;
}

export interface Shape {
  code: number;
  fields: Readonly<Record<string, FieldType>>;
}

/** Operations of the process that launches: monitor, exec or pin. */
const OUTER_OPS = {
  CGROUP_V2: { code: 1, fields: { dir: 'str' } },
  CGROUP_V1: { code: 2, fields: { tasks: 'str' } },
  CGROUP_KILL: { code: 3, fields: { file: 'str' } },
  CLONE_FLAGS: { code: 4, fields: { flags: 'u64' } },
  LOG: { code: 5, fields: { path: 'str', maxLine: 'u32' } },
  STDIN: { code: 6, fields: { mode: 'u32' } },
  ORPHAN: { code: 130, fields: { stateDir: 'str' } },
  JOIN_PID: { code: 7, fields: { path: 'str' } },
  JOIN_PIDFD: { code: 8, fields: { fd: 'u32', types: 'u32' } },
  USERNS: {
    code: 80,
    fields: { path: 'str', namespaces: 'u64', uid: 'u32', uids: 'u32', gid: 'u32', gids: 'u32' },
  },
  OCI_RUNTIME: { code: 100, fields: { pidFile: 'str', start: 'strs', envp: 'strs' } },
  DIAL: { code: 112, fields: { port: 'u32' } },
} as const satisfies Record<string, Shape>;

/** Operations of either section. */
const HOST_OPS = {
  SETNS: { code: 16, fields: { type: 'u32', path: 'str' } },
  UNSHARE: { code: 17, fields: { flags: 'u32' } },
  HOSTNAME: { code: 18, fields: { name: 'str' } },
  LOOPBACK_UP: { code: 19, fields: {} },
  SYSCTL: { code: 20, fields: { path: 'str', value: 'str' } },
  PIN: { code: 21, fields: { ns: 'str', path: 'str' } },
  SHM: { code: 22, fields: { path: 'str', size: 'u64', label: 'str' } },
  PAUSE: { code: 23, fields: { path: 'str' } },
  OOM_SCORE_ADJ: { code: 24, fields: { value: 'u32' } },
  KEYRING: { code: 25, fields: { label: 'str' } },
  PROPAGATION: { code: 32, fields: { flags: 'u64', path: 'str' } },
  STAGE: { code: 81, fields: { dir: 'str', userns: 'str' } },
  STAGE_OVERLAY: { code: 82, fields: { base: 'str', upper: 'str', work: 'str', flags: 'u32', lowers: 'strs' } },
  STDIO_OWNER: { code: 87, fields: { uid: 'u32', gid: 'u32' } },
} as const satisfies Record<string, Shape>;

/** Operations of the process that becomes the container's. */
const INNER_OPS = {
  ROOT_OVERLAY: { code: 33, fields: { stage: 'str', upper: 'str', work: 'str', flags: 'u32', lowers: 'strs' } },
  ROOT_BIND: { code: 34, fields: { stage: 'str', source: 'str', readonly: 'u32' } },
  MOUNT_FS: { code: 35, fields: { type: 'str', target: 'str', attrs: 'u64', options: 'strs', flags: 'u32' } },
  MOUNT_BIND: {
    code: 36,
    fields: { source: 'str', target: 'str', set: 'u64', clear: 'u64', propagation: 'u64', flags: 'u32' },
  },
  MKNOD: { code: 37, fields: { path: 'str', mode: 'u32', major: 'u32', minor: 'u32', uid: 'u32', gid: 'u32' } },
  SYMLINK: { code: 38, fields: { target: 'str', path: 'str' } },
  MKDIR: { code: 39, fields: { path: 'str', mode: 'u32' } },
  MASK: { code: 40, fields: { path: 'str' } },
  READONLY: { code: 41, fields: { path: 'str' } },
  ROOT_READONLY: { code: 42, fields: {} },
  PIVOT_ROOT: { code: 43, fields: { propagation: 'u64' } },
  LOOKUP_USER: {
    code: 45,
    fields: { user: 'str', group: 'str', hasGroup: 'u32', gid: 'u32', merge: 'u32', groups: 'bytes' },
  },
  AWAIT_GO: { code: 46, fields: {} },
  SETSID: { code: 47, fields: {} },
  RLIMIT: { code: 48, fields: { resource: 'u32', soft: 'u64', hard: 'u64' } },
  CWD: { code: 49, fields: { path: 'str' } },
  IDENTITY: { code: 50, fields: { bounding: 'u64' } },
  NO_NEW_PRIVS: { code: 51, fields: {} },
  SECCOMP: { code: 52, fields: { flags: 'u32', filter: 'bytes' } },
  UMASK: { code: 53, fields: { mask: 'u32' } },
  CAPABILITIES: { code: 60, fields: { effective: 'u64', permitted: 'u64', inheritable: 'u64', ambient: 'u64' } },
  EXEC_LABEL: { code: 61, fields: { attribute: 'str', label: 'str' } },
  ROOT_LABEL: { code: 62, fields: { label: 'str' } },
  QUEUE_LABEL: { code: 63, fields: { label: 'str' } },
  EXEC: { code: 54, fields: { candidates: 'strs', argv: 'strs', envp: 'strs', addHome: 'u32' } },
  TERMINAL: { code: 110, fields: { console: 'u32', rows: 'u32', columns: 'u32' } },
  CONTROLLING_TERMINAL: { code: 111, fields: {} },
  HOLD_SOURCE: { code: 70, fields: { source: 'str', target: 'str', flags: 'u32' } },
  HOLD_DEVICE: {
    code: 71,
    fields: { target: 'str', stage: 'str', mode: 'u32', major: 'u32', minor: 'u32', uid: 'u32', gid: 'u32' },
  },
  HOLD_IMAGE: { code: 72, fields: { target: 'str', stage: 'str', subpath: 'str', lowers: 'strs' } },
  COPY_UP: { code: 73, fields: { target: 'str' } },
  RELABEL: { code: 74, fields: { target: 'str', label: 'str' } },
  MOUNT_ATTR: { code: 75, fields: { path: 'str', set: 'u64', clear: 'u64', propagation: 'u64', flags: 'u32' } },
  SHARE: { code: 76, fields: { target: 'str' } },
  HOOK: {
    code: 77,
    fields: { path: 'str', argv: 'strs', envp: 'strs', before: 'str', after: 'str', timeout: 'u32' },
  },
  AWAIT_HOOKS: { code: 170, fields: {} },
  START_HOOK: {
    code: 171,
    fields: { path: 'str', argv: 'strs', envp: 'strs', before: 'str', after: 'str', timeout: 'u32' },
  },
  HOOK_VIEW: { code: 172, fields: { cover: 'str', stage: 'str', bundle: 'str', config: 'bytes' } },
  HELD_ATTRS: {
    code: 83,
    fields: { number: 'u32', set: 'u64', clear: 'u64', propagation: 'u64', flags: 'u32', idmap: 'u32' },
  },
  ENTER_USERNS: { code: 84, fields: { namespaces: 'u32', uids: 'u32', gids: 'u32' } },
  ROOT_STAGED: { code: 85, fields: {} },
  USERNS_ROOT: { code: 86, fields: { uids: 'u32', gids: 'u32' } },
  FIRST_PROCESS: { code: 153, fields: {} },
  ADD_GROUP: { code: 154, fields: { name: 'str' } },
  COPY_STAT: { code: 150, fields: { path: 'str', flags: 'u32' } },
  COPY_OUT: { code: 151, fields: { path: 'str', name: 'str', flags: 'u32' } },
  COPY_IN: { code: 152, fields: { root: 'str', dir: 'str', flags: 'u32', uid: 'u32', gid: 'u32' } },
} as const satisfies Record<string, Shape>;

export const ALL_OPS = { ...OUTER_OPS, ...HOST_OPS, ...INNER_OPS } as const;

type Values<Fields extends Readonly<Record<string, FieldType>>> = {
  readonly [F in keyof Fields]: FieldValues[Fields[F]];
};
type OpOf<Table extends Record<string, Shape>> = {
  [Name in keyof Table]: { readonly op: Name } & Values<Table[Name]['fields']>;
}[keyof Table];

export type OuterOp = OpOf<typeof OUTER_OPS & typeof HOST_OPS>;
export type InnerOp = OpOf<typeof INNER_OPS & typeof HOST_OPS>;
export type PlanOp = OuterOp | InnerOp;

/** What the launcher does, then what the launched process does, in order. */
export interface LaunchPlan {
  outer: readonly OuterOp[];
  inner: readonly InnerOp[];
}

/** Which list a failed step is in. */
export type PlanSection = keyof LaunchPlan;

/** Messages from a helper. */
export const HELPER_MESSAGES = {
  CREATED: { code: 1, fields: { pid: 'u32', startTime: 'u64', uid: 'u32', gid: 'u32', groups: 'bytes' } },
  RUNNING: { code: 2, fields: { startedAtNs: 'u64' } },
  FAILED: { code: 3, fields: { section: 'u32', step: 'u32', errno: 'u32', detail: 'str' } },
  EXITED: { code: 4, fields: { exitCode: 'u32', signal: 'u32', finishedAtNs: 'u64', droppedBytes: 'u64' } },
  LOG_REOPENED: { code: 5, fields: { errno: 'u32' } },
  ORPHANS: { code: 132, fields: { commands: 'u32', lostBytes: 'u64' } },
  LOG_DROPPED: { code: 130, fields: { bytes: 'u64', errno: 'u32' } },
  TIMES: {
    code: 7,
    fields: { beganNs: 'u64', outer: 'bytes', clonedNs: 'u64', initNs: 'u64', inner: 'bytes', readyNs: 'u64' },
  },
  OUTPUT: { code: 134, fields: {} },
  PREPARED: { code: 8, fields: { uid: 'u32', gid: 'u32', home: 'str', groups: 'bytes' } },
  HOOKS: { code: 170, fields: { pid: 'u32' } },
  DONE: { code: 6, fields: { pausePid: 'u32', pauseStartTime: 'u64' } },
  ATTACHED: { code: 110, fields: { errno: 'u32' } },
  DIALED: { code: 111, fields: {} },
} as const satisfies Record<string, Shape>;

/** Messages to a helper. */
export const DAEMON_MESSAGES = {
  START: { code: 64, fields: {} },
  REOPEN_LOG: { code: 65, fields: {} },
  KILL: { code: 66, fields: { signal: 'u32' } },
  PROCEED: { code: 67, fields: {} },
  ORPHANED: { code: 131, fields: { lostBytes: 'u64' } },
  ORPHANS_HEARD: { code: 133, fields: {} },
  RESIZE: { code: 112, fields: { rows: 'u32', columns: 'u32' } },
  ATTACH: { code: 113, fields: { stream: 'u32' } },
} as const satisfies Record<string, Shape>;

interface Received {
  u32: number;
  u64: bigint;
  str: string;
  strs: string[];
  bytes: Buffer;
}

export type HelperMessage = {
  [Name in keyof typeof HELPER_MESSAGES]: { readonly type: Name } & {
    readonly [
      F in keyof (typeof HELPER_MESSAGES)[Name]['fields']
    ]: Received[(typeof HELPER_MESSAGES)[Name]['fields'][F] & FieldType];
  };
}[keyof typeof HELPER_MESSAGES];

export type DaemonMessage = {
  [Name in keyof typeof DAEMON_MESSAGES]: { readonly type: Name } & Values<(typeof DAEMON_MESSAGES)[Name]['fields']>;
}[keyof typeof DAEMON_MESSAGES];
