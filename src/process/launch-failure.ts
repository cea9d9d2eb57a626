import { constants } from 'node:os';
import { BerthError, type ErrorKind } from '../base/errors';
import type { HelperMessage, LaunchPlan, PlanOp } from '../native/plan-ops';

type Failed = Extract<HelperMessage, { type: 'FAILED' }>;

/** Node does not know all of them; the helper says ELIBACC for a program whose interpreter is missing. */
const NAME_OF_ERRNO = new Map<number, string>([
  ...Object.entries(constants.errno).map(([name, n]): [number, string] => [n, name]),
  [79, 'ELIBACC'],
]);

/** What HOLD_SOURCE says of a mount that does not propagate as it has to. */
const NOT_PROPAGATING = 'ENOLINK';

/** What errno numbers mean to a person; others are shown by name. */
const MEANING: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EBUSY: 'device or resource busy',
  EEXIST: 'it exists already',
  E2BIG: 'too many',
  EINVAL: 'the kernel refuses the arguments',
  ELOOP: 'a symbolic link stands in the way',
  ENODEV: 'no such device or file system type',
  ENOENT: 'no such file or directory',
  ENOEXEC: 'not a program that this machine can run',
  ENOMEM: 'out of memory',
  ENOSPC: 'no space left on device',
  ENOTDIR: 'not a directory',
  EPERM: 'not permitted',
  EROFS: 'read-only file system',
  EXDEV: 'it leads out of the container',
};

/**
 * A step of a launch plan that the helper could not do. The message is the
 * sentence for the user; `op` and `errno` are for code that decides.
 */
export class LaunchError extends BerthError {
  constructor(
    kind: ErrorKind,
    message: string,
    readonly op: PlanOp['op'] | undefined,
    readonly errno: string,
    hint?: string,
  ) {
    super(kind, message, hint === undefined ? {} : { hint });
    this.name = 'LaunchError';
  }
}

/** The plan's author turns the helper's "step 7, errno 2" into a sentence. */
export function launchError(failed: Failed, plan: LaunchPlan): LaunchError {
  const steps: readonly PlanOp[] = failed.section === 0 ? plan.outer : plan.inner;
  const step = steps[failed.step];
  const errno = NAME_OF_ERRNO.get(failed.errno) ?? `errno ${failed.errno}`;
  const why = MEANING[errno] ?? errno;
  const detail = failed.detail;
  if (step === undefined) {
    // ECHILD: it was there and somebody has ended it, as a stop does that meets a start.
    const kind = errno === 'ECHILD' ? 'aborted' : 'internal';
    return new LaunchError(kind, `start the process: ${detail || 'clone'}: ${why}`, undefined, errno);
  }
  switch (step.op) {
    case 'EXEC':
      return execError(step, errno, detail, plan);
    case 'CWD':
      return new LaunchError('invalid_argument', `working directory ${text(step.path)}: ${why}`, step.op, errno);
    case 'LOOKUP_USER':
      return lookupError(step, errno, detail);
    case 'ADD_GROUP':
      return new LaunchError(
        'invalid_argument',
        `group ${text(step.name)}: ${errno === 'ENOENT' ? "no such group in the image's /etc/group" : why}`,
        step.op,
        errno,
      );
    case 'HOLD_SOURCE':
      return sourceError(step, errno, detail);
    case 'HOLD_IMAGE':
      return new LaunchError(
        'invalid_argument',
        `mount an image at ${text(step.target)}: ${detail || 'failed'}: ${why}`,
        step.op,
        errno,
      );
    case 'COPY_UP':
      return new LaunchError(
        errno === 'ENOSPC' ? 'resource_exhausted' : 'internal',
        `fill the image's VOLUME ${text(step.target)}: ${detail || 'failed'}: ${why}`,
        step.op,
        errno,
      );
    case 'MOUNT_BIND':
      return new LaunchError(
        'invalid_argument',
        `mount ${text(step.source)} at ${text(step.target)}: ${detail || 'failed'}: ${why}`,
        step.op,
        errno,
      );
    case 'HOOK':
    case 'START_HOOK':
      return new LaunchError(
        'failed_precondition',
        `${step.op === 'HOOK' ? 'createContainer' : 'startContainer'} hook ${text(step.path)}: ${detail || why}`,
        step.op,
        errno,
        "it comes with a device of the container's: see its CDI spec",
      );
    case 'OCI_RUNTIME':
      // What the runtime itself said is in its log, and is added by who knows where that is.
      return new LaunchError('internal', detail || why, step.op, errno);
    case 'SYSCTL':
      return new LaunchError(
        'invalid_argument',
        `sysctl ${text(step.path).replaceAll('/', '.')} = ${JSON.stringify(text(step.value))}: ${why}`,
        step.op,
        errno,
      );
    case 'EXEC_LABEL':
      return labelError(step, errno, detail);
    case 'LOG':
      return new LaunchError('invalid_argument', `open the log ${text(step.path)}: ${why}`, step.op, errno);
    case 'HELD_ATTRS':
      return idmapError(heldMount(step.number, plan), step.op, errno, detail);
    case 'STAGE_OVERLAY':
      return idmapError('mount the root file system in a user namespace', step.op, errno, detail);
    case 'USERNS':
      return usernsError(step, errno, detail);
    default: {
      const where =
        'path' in step
          ? ` ${text(step.path)}`
          : 'target' in step
            ? ` ${text(step.target)}`
            : 'cover' in step
              ? ` ${text(step.cover)}`
              : '';
      const said = detail === '' ? '' : ` (${detail})`;
      return new LaunchError(
        'internal',
        `${STEP_NAMES[step.op] ?? step.op.toLowerCase()}${where}: ${why}${said}`,
        step.op,
        errno,
      );
    }
  }
}

const STEP_NAMES: Partial<Record<PlanOp['op'], string>> = {
  CAPABILITIES: 'set the capabilities',
  CGROUP_V1: 'open the cgroup',
  CGROUP_V2: 'open the cgroup',
  HOLD_DEVICE: 'make the device',
  HOOK_VIEW: 'show hooks the bundle, below',
  IDENTITY: 'take on user, groups and capabilities',
  JOIN_PID: "join the pod's PID namespace",
  JOIN_PIDFD: "join the container's namespaces",
  MASK: 'mask',
  MOUNT_ATTR: 'set the attributes of the mount at',
  MOUNT_FS: 'mount',
  PAUSE: "start the pod's init",
  PIN: 'pin the namespace',
  ENTER_USERNS: "enter the pod's user namespace",
  PIVOT_ROOT: 'change the root',
  ROOT_OVERLAY: 'mount the root file system',
  RELABEL: 'give the SELinux label to',
  SECCOMP: 'load the seccomp filter',
  SETNS: 'join the namespace',
  SHARE: 'share with the host the mount at',
  TERMINAL: 'make a terminal',
  CONTROLLING_TERMINAL: "take the terminal for the process's own",
};

/** fs type names by f_type; linux/magic.h and others. Only those that people meet. */
const FILE_SYSTEMS: Readonly<Record<string, string>> = {
  '187': 'autofs',
  '4d44': 'vfat',
  '6969': 'nfs',
  '9fa0': 'proc',
  ef53: 'ext4',
  '517b': 'smb',
  '1021994': 'tmpfs',
  '1021997': '9p',
  '2fc12fc1': 'zfs',
  '27e0eb': 'cgroup',
  '63677270': 'cgroup2',
  '62656572': 'sysfs',
  '64626720': 'debugfs',
  '65735546': 'fuse',
  '73717368': 'squashfs',
  '794c7630': 'overlay',
  '9123683e': 'btrfs',
  c36400: 'ceph',
  cafe4a11: 'bpf',
  e0f5e1e2: 'erofs',
  f2f52010: 'f2fs',
  fe534d42: 'smb',
  ff534d42: 'cifs',
};

/** `mount SOURCE at TARGET` of the nth mount that is held. */
function heldMount(number: number, { inner }: LaunchPlan): string {
  const held = inner.filter(({ op }) => op === 'HOLD_SOURCE' || op === 'HOLD_DEVICE' || op === 'HOLD_IMAGE')[number];
  return held?.op === 'HOLD_SOURCE' ? `mount ${text(held.source)} at ${text(held.target)}` : 'mount';
}

function idmapError(what: string, op: PlanOp['op'], errno: string, detail: string): LaunchError {
  const [, type = '', path = ''] = /^idmap ([0-9a-f]+) (.*)$/.exec(detail) ?? [];
  if (type === '') return new LaunchError('internal', `${what}: ${MEANING[errno] ?? errno} (${detail})`, op, errno);
  const fs = FILE_SYSTEMS[type] ?? `of type 0x${type}`;
  return new LaunchError(
    'failed_precondition',
    `${what}: ${path} cannot be idmapped: its file system is ${fs}, and the kernel answers ${errno}` +
      (errno === 'EINVAL' ? ' (it, or one that is mounted below it, does not support idmapped mounts)' : ''),
    op,
    errno,
    'use another file system for it, or a pod without a user namespace',
  );
}

function usernsError(step: Extract<PlanOp, { op: 'USERNS' }>, errno: string, detail: string): LaunchError {
  const why =
    errno === 'ENOSPC'
      ? 'there are too many (sysctl user.max_user_namespaces)'
      : `${MEANING[errno] ?? errno}${detail === '' ? '' : ` (${detail})`}`;
  const ids = `host ids ${step.uid} to ${step.uid + step.uids - 1}`;
  return new LaunchError('failed_precondition', `make the pod's user namespace with ${ids}: ${why}`, 'USERNS', errno);
}

function execError(
  step: Extract<PlanOp, { op: 'EXEC' }>,
  errno: string,
  detail: string,
  plan: LaunchPlan,
): LaunchError {
  const command = JSON.stringify(text(step.argv[0] ?? ''));
  const [kind, message] = execSentence(command, errno, detail, step.candidates.length > 1);
  return new LaunchError(
    kind,
    `exec: ${message}`,
    'EXEC',
    errno,
    errno === 'EACCES' ? whoElseRefuses(plan) : undefined,
  );
}

/** A security module's refusal looks like that of the file's mode. */
function whoElseRefuses({ inner }: LaunchPlan): string | undefined {
  const labels = inner.flatMap(op => (op.op === 'EXEC_LABEL' ? [labelName(op)] : []));
  return labels.length === 0
    ? undefined
    : `if its mode allows it, ${labels.join(' or ')} does not: the kernel's log says so`;
}

function execSentence(command: string, errno: string, path: string, searched: boolean): [ErrorKind, string] {
  switch (errno) {
    case 'ENOENT':
      return [
        'not_found',
        searched ? `${command}: not found in PATH of the image` : `${command}: no such file in the image`,
      ];
    case 'ELIBACC':
      return ['failed_precondition', `${command}: ${path} is there, but not the interpreter or loader that it names`];
    case 'ENOEXEC':
      return [
        'failed_precondition',
        `${command}: ${path} is not a program for this machine (another architecture, or a script without #!)`,
      ];
    case 'EISDIR':
      return ['failed_precondition', `${command}: ${path} is a directory`];
    case 'E2BIG':
      // execve(2): one of them may have 128 KiB, all together a quarter of the stack's limit.
      return ['invalid_argument', `${command}: an argument or a variable, or all of them, are too long for the kernel`];
    case 'EACCES':
      return ['permission_denied', `${command}: ${path} is not executable for this user`];
    default:
      return ['internal', `${command}: ${path}: ${MEANING[errno] ?? errno}`];
  }
}

function sourceError(step: Extract<PlanOp, { op: 'HOLD_SOURCE' }>, errno: string, detail: string): LaunchError {
  const mount = `mount ${text(step.source)} at ${text(step.target)}`;
  if (errno === NOT_PROPAGATING) {
    const hint = 'mount --make-rshared on the host, with that mount point, or ask for no propagation';
    return new LaunchError('failed_precondition', `${mount}: ${detail}`, step.op, errno, hint);
  }
  return new LaunchError(
    'invalid_argument',
    `${mount}: ${detail || 'failed'}: ${MEANING[errno] ?? errno}`,
    step.op,
    errno,
  );
}

function lookupError(step: Extract<PlanOp, { op: 'LOOKUP_USER' }>, errno: string, detail: string): LaunchError {
  const [, what = '', id = '', count = ''] = /^(user|group) (\d+) of (\d+)$/.exec(detail) ?? [];
  if (errno === 'ERANGE' && what !== '') {
    return new LaunchError(
      'invalid_argument',
      `${what} ${id} is not in the pod's user namespace, which has ids 0 to ${Number(count) - 1}`,
      'LOOKUP_USER',
      errno,
    );
  }
  if (errno === 'ENOENT' && detail.startsWith('group ')) {
    return new LaunchError('not_found', `${detail}: no such group in the image's /etc/group`, 'LOOKUP_USER', errno);
  }
  if (errno === 'ENOENT') {
    return new LaunchError(
      'not_found',
      `user ${text(step.user)}: no such user in the image's /etc/passwd`,
      'LOOKUP_USER',
      errno,
    );
  }
  const why =
    errno === 'EFBIG'
      ? 'the file is larger than 16 MiB'
      : errno === 'EOVERFLOW'
        ? 'the user would be in more than 1000 groups'
        : (MEANING[errno] ?? errno);
  const where = detail === '' ? '' : `${detail} of the image: `;
  return new LaunchError('invalid_argument', `look up user ${text(step.user)}: ${where}${why}`, 'LOOKUP_USER', errno);
}

function text(value: string | Buffer): string {
  return typeof value === 'string' ? value : value.toString('utf8');
}

/** The kernel knows AppArmor's profiles by what is loaded, and SELinux's labels by the policy. */
function labelError(step: Labelling, errno: string, detail: string): LaunchError {
  const unknown = isOfAppArmor(step)
    ? errno === 'ENOENT' && 'it is not loaded on this node any more'
    : errno === 'EINVAL' && "this node's policy does not have it";
  const why = unknown || `${detail}: ${MEANING[errno] ?? errno}`;
  return new LaunchError('failed_precondition', `${labelName(step)}: ${why}`, step.op, errno);
}

type Labelling = Extract<PlanOp, { op: 'EXEC_LABEL' }>;

function labelName(step: Labelling): string {
  const label = text(step.label);
  return isOfAppArmor(step) ? `AppArmor profile ${label.replace(/^exec /, '')}` : `SELinux label ${label}`;
}

function isOfAppArmor({ attribute }: Labelling): boolean {
  return text(attribute).startsWith('apparmor');
}
