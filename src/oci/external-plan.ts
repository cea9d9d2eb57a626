import type { LaunchPlan } from '../native/plan-ops';
import {
  cgroupOps,
  lookupUser,
  rootLabel,
  rootOverlay,
  stdinMode,
  type CgroupPlacement,
  type KeepStdinOpen,
  type LogTarget,
  type Rootfs,
} from './launch-plan';
import { CLONE, MS } from './linux';
import { holdImageOps, holdOps, mountOps } from './mount-ops';
import type { MountSpec, Spec } from './spec';

/** The command lines of an OCI runtime for one container, each with the program's path first. */
interface RuntimeCommands {
  create: readonly string[];
  start: readonly string[];
  /** Where `create` leaves the number of the container's process. */
  pidFile: string;
}

/** What a runtime finds its own helpers with. */
const RUNTIME_ENV = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'];

/**
 * Spec → plan for a container that an OCI runtime makes: from a fresh monitor to
 * the runtime's create. The root is mounted in a mount namespace that only the
 * runtime and the container have. Pure.
 */
export function externalPlan(
  spec: Spec,
  rootfs: Rootfs,
  cgroup: CgroupPlacement,
  log: LogTarget | undefined,
  keepStdinOpen: KeepStdinOpen,
  commands: RuntimeCommands,
): LaunchPlan {
  return {
    outer: [
      { op: 'OCI_RUNTIME', pidFile: commands.pidFile, start: commands.start, envp: RUNTIME_ENV },
      // The runtime puts the container into its cgroups itself; what ends all of it is the same.
      ...cgroupOps({ ...cgroup, v1Tasks: [], v2Directory: undefined }),
      { op: 'CLONE_FLAGS', flags: BigInt(CLONE.newns) },
      ...(log ? [{ op: 'LOG', path: log.path, maxLine: log.maxLineBytes } as const] : []),
      { op: 'STDIN', mode: stdinMode(keepStdinOpen, spec.process) },
    ],
    inner: [
      { op: 'UMASK', mask: 0o022 },
      ...rootLabel(spec),
      ...spec.mounts.flatMap(mount => holdOps(mount, spec.mounts)),
      { op: 'PROPAGATION', flags: MS.rec | MS.slave, path: '/' },
      ...spec.mounts.flatMap(mount => holdImageOps(mount, rootfs.stage)),
      rootOverlay(spec, rootfs),
      ...spec.mounts.flatMap(mount => beforeRuntime(mount, spec.mounts)),
      lookupUser(spec.process.user),
      { op: 'AWAIT_GO' },
      { op: 'SETSID' },
      ...runOp(commands.create),
    ],
  };
}

/** What a bundle has no words for is done before: files of images are mounted, and volumes filled from the root. */
function beforeRuntime(mount: MountSpec, all: readonly MountSpec[]): LaunchPlan['inner'] {
  const isBefore = (op: string) => op === 'COPY_UP' || op === 'RELABEL' || mount.image !== undefined;
  return mountOps(mount, all).filter(({ op }) => isBefore(op));
}

/** One more process in such a container: the runtime's exec, outside of all of its namespaces. */
export function externalExecPlan(command: readonly string[], hasInput: boolean): LaunchPlan {
  return {
    outer: [{ op: 'STDIN', mode: hasInput ? 1 : 0 }],
    inner: [{ op: 'UMASK', mask: 0o022 }, { op: 'SETSID' }, ...runOp(command)],
  };
}

function runOp(command: readonly string[]): LaunchPlan['inner'] {
  return [{ op: 'EXEC', candidates: command.slice(0, 1), argv: command, envp: RUNTIME_ENV, addHome: 0 }];
}
