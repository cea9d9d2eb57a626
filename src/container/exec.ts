import { closeSync } from 'node:fs';
import { crashPoint } from '../base/crash-points';
import { BerthError } from '../base/errors';
import { execPlan } from '../oci/launch-plan';
import { DEFAULT_TERM } from '../oci/container-spec';
import type { ResolvedUser } from '../oci/oci-json';
import type { LinuxSpec, ProcessSpec, RlimitSpec, UserRequest } from '../oci/spec';
import { LaunchError } from '../process/launch-failure';
import { startExec, type RunningExec, type TerminalSize } from '../process/exec';
import { openProcess, startTimeOf } from '../process/identity';
import type { Container, Containers } from './containers';
import { execByRuntime } from './runtime-exec';

export interface ExecRequest {
  command: readonly string[];
  /** Entries over the container's own, by key. */
  env?: readonly { key: string; value: Buffer }[];
  workingDir?: string;
  user?: UserRequest;
  stdin: boolean;
  /** Of a terminal, in characters; its output is `stdout`. Zeros: the client will say. */
  terminal?: TerminalSize;
  /** Kills the command, also while it is being started. */
  signal?: AbortSignal;
  onOutput: (stream: 'stdout' | 'stderr', chunk: Buffer) => void | Promise<void>;
}

/** Runs one more command in a running container, as the container's own user unless asked otherwise. */
export async function execInContainer(
  containers: Containers,
  container: Container,
  request: ExecRequest,
): Promise<RunningExec> {
  const { id, state, process, cgroupPath, spec, seccomp } = container.record;
  if (request.command.length === 0 || request.command[0] === '') {
    throw new BerthError('invalid_argument', 'exec: no command is given');
  }
  const pidfd = process && state === 'running' ? openProcess(process.pid, process.pidStartTime) : undefined;
  if (pidfd === undefined || spec === undefined) {
    throw new BerthError(
      'failed_precondition',
      `container ${id} is ${state}: a command runs only in a running container`,
    );
  }
  try {
    const runtime = containers.runtimes.of(containers.handlerOf(container));
    const { own, idMappings } = ofSpec(container, spec);
    const wanted = {
      ...execProcess(own, container, request),
      rlimits: own.rlimits ?? rlimitsOf(containers, container),
    };
    const start = {
      target: pidfd,
      name: id,
      stdin: request.stdin,
      isTerminal: request.terminal !== undefined,
      onOutput: request.onOutput,
      ...(request.signal ? { signal: request.signal } : {}),
    };
    const exec = runtime
      ? await execByRuntime(
          runtime,
          { id, stateDir: containers.paths(id).stateDir, ...resolved(container, wanted) },
          start,
        )
      : await startExec({
          ...start,
          plan: execPlan(
            wanted,
            containers.cgroups.placementBeside(cgroupPath, process?.pid ?? 0),
            request.stdin,
            seccomp,
            idMappings,
            containers.paths(id).stateDir,
          ),
        });
    crashPoint('exec.started');
    return exec;
  } catch (error) {
    const isLeaving = error instanceof LaunchError && error.errno === 'ESRCH';
    if (process && !isLeaving && startTimeOf(process.pid) === process.pidStartTime) throw error;
    // Whatever step it was that did not find the container any more.
    throw new BerthError('failed_precondition', `container ${id} ended while a command was being started in it`, {
      cause: error,
    });
  } finally {
    closeSync(pidfd);
  }
}

/** Of a container that was made before its spec had all limits. */
function rlimitsOf(containers: Containers, container: Container): RlimitSpec[] {
  return containers.rlimits.for(containers.handlerOf(container), container.options.ulimits);
}

/** A runtime cannot look names up in the image. */
function resolved({ record }: Container, process: ProcessSpec): { process: ProcessSpec; user: ResolvedUser } {
  if (process.terminal)
    throw new BerthError('unimplemented', 'tty: runtimes that are not berth’s own have no terminals');
  const { user, gid, supplementalGroups } = process.user;
  if (!/^\d+$/.test(user)) {
    throw new BerthError('unimplemented', `user ${user}: runtimes that are not berth's own take numbers only`);
  }
  const home = record.user?.home ?? '';
  return { process, user: { uid: Number(user), gid: gid ?? 0, groups: supplementalGroups, home } };
}

/** What specToJson() leaves of a spec. */
interface StoredSpec {
  process: Omit<ProcessSpec, 'env'> & { env: string[] };
  linux: LinuxSpec;
}

interface OfSpec {
  /** It was read from this. */
  text: string;
  own: StoredSpec['process'];
  idMappings: LinuxSpec['idMappings'];
}

/** Probes come again and again: what an exec needs of a spec, which is some 10 kB of text, is kept after the first. */
const known = new WeakMap<Container, OfSpec>();

function ofSpec(container: Container, text: string): OfSpec {
  let found = known.get(container);
  if (found?.text !== text) {
    const { process: own, linux } = JSON.parse(text) as StoredSpec;
    known.set(container, (found = { text, own, idMappings: linux.idMappings }));
  }
  return found;
}

function execProcess(own: StoredSpec['process'], { record, config }: Container, request: ExecRequest): ProcessSpec {
  const { user = { uid: 0, gid: 0, groups: [] } } = record;
  const entries = new Map<string, Buffer>();
  for (const entry of own.env) entries.set(entry.split('=', 1)[0] ?? '', Buffer.from(entry));
  const lineOf = ({ key, value }: { key: string; value: Buffer }) => Buffer.concat([Buffer.from(`${key}=`), value]);
  // The spec as JSON has text; the request's own bytes are put in its place, but where a device's word counts.
  for (const variable of config.envs) {
    const line = lineOf(variable);
    if (line.toString('utf8') === entries.get(variable.key)?.toString('utf8')) entries.set(variable.key, line);
  }
  for (const variable of request.env ?? []) entries.set(variable.key, lineOf(variable));
  const { terminal: _, ...rest } = own;
  const { terminal } = request;
  if (terminal && !entries.has('TERM')) entries.set('TERM', Buffer.from(`TERM=${DEFAULT_TERM}`));
  return {
    ...rest,
    ...(terminal ? { terminal: true, consoleSize: { height: terminal.rows, width: terminal.columns } } : {}),
    args: [...request.command],
    env: [...entries.values()],
    cwd: request.workingDir || own.cwd,
    user: request.user ?? {
      user: String(user.uid),
      group: '',
      gid: user.gid,
      supplementalGroups: user.groups,
      mergeImageGroups: false,
    },
  };
}
