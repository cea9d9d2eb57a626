import { closeSync, readFileSync } from 'node:fs';
import { BerthError, errnoOf } from '../base/errors';
import { addon, type Spawned } from './addon';
import { nativePath } from './paths';
import { encodePlan } from './plan';
import type { LaunchPlan } from './plan-ops';

type HelperRole = 'monitor' | 'exec' | 'pin' | 'dial' | 'hold';

let program: number | undefined;

/** /dev/null, opened once. Containers get it, too. */
let nothing: number | undefined;

/** The helper as a sealed memfd, made once: no container can reach and overwrite it, and all helpers share one text. */
function helperProgram(): number {
  if (program !== undefined) return program;
  const path = nativePath('berth-helper');
  try {
    program = addon().memfd(readFileSync(path), 'berth-helper');
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    throw new BerthError('failed_precondition', `the helper is not built: ${path} does not exist`, {
      hint: 'run `make build`',
    });
  }
  return program;
}

export interface StartHelper {
  role: HelperRole;
  /** Shown in the process list after the role. */
  name: string;
  /** As it is, or as `encodePlan` has made it. */
  plan: LaunchPlan | Buffer;
  /** Descriptors 0, 1, 2; /dev/null where not given. */
  stdio?: readonly [stdin: number | undefined, stdout: number | undefined, stderr: number | undefined];
  /** Becomes descriptor 5: the state directory of a monitor, the pidfd of an exec. */
  extra?: number;
}

export interface StartedHelper extends Spawned {
  /** The daemon's end of the control socket; belongs to the caller. */
  controlFd: number;
}

/** Starts the helper in a role; the plan and the descriptors given are not needed any more once this resolves. */
export async function startHelper(start: StartHelper): Promise<StartedHelper> {
  const native = addon();
  const opened: number[] = [];
  const open = (fd: number) => {
    opened.push(fd);
    return fd;
  };
  let controlFd: number | undefined;
  try {
    const planFd = open(native.memfd(Buffer.isBuffer(start.plan) ? start.plan : encodePlan(start.plan), 'berth-plan'));
    nothing ??= native.openNull();
    const devNull = nothing;
    const [ours, theirs] = native.socketPair();
    controlFd = ours;
    const stdio = [0, 1, 2].map(i => start.stdio?.[i] ?? devNull);
    const fds = [...stdio, planFd, open(theirs), ...(start.extra === undefined ? [] : [start.extra])];
    const child = await native.spawn(helperProgram(), ['berth-helper', start.role, start.name], fds, -1);
    return { ...child, controlFd };
  } catch (error) {
    if (controlFd !== undefined) closeSync(controlFd);
    throw error;
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}
