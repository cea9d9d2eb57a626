import { closeSync, readFileSync } from 'node:fs';
import { BerthError, errnoOf } from '../base/errors';
import { addon } from './addon';
import { nativePath } from './paths';
import { encodePlan } from './plan';
import type { LaunchPlan } from './plan-ops';
import { SPARE_ARGV, SpareHelpers, type StartedHelper } from './spare-helpers';

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

/** Those that somebody waits for, and that come one at a time. */
const WITH_SPARES: readonly HelperRole[] = ['monitor', 'exec'];

const spares = new SpareHelpers(() => {
  const devNull = openNothing();
  return spawnHelper([...SPARE_ARGV], [devNull, devNull, devNull, devNull], []);
});

/** Starts the helper in a role; the plan and the descriptors given are not needed any more once this resolves. */
export async function startHelper({ role, name, plan, stdio, extra }: StartHelper): Promise<StartedHelper> {
  const planFd = addon().memfd(Buffer.isBuffer(plan) ? plan : encodePlan(plan), 'berth-plan');
  try {
    const devNull = openNothing();
    const first = [...[0, 1, 2].map(i => stdio?.[i] ?? devNull), planFd];
    const last = extra === undefined ? [] : [extra];
    const spare = WITH_SPARES.includes(role) ? spares.take(role, name, [...first, ...last]) : undefined;
    return spare ?? (await spawnHelper(['berth-helper', role, name], first, last));
  } finally {
    closeSync(planFd);
  }
}

/** The control socket comes between the two lists of descriptors. */
async function spawnHelper(argv: string[], first: readonly number[], last: readonly number[]): Promise<StartedHelper> {
  const [controlFd, theirs] = addon().socketPair();
  try {
    const child = await addon().spawn(helperProgram(), argv, [...first, theirs, ...last], -1);
    return { ...child, controlFd };
  } catch (error) {
    closeSync(controlFd);
    throw error;
  } finally {
    closeSync(theirs);
  }
}

function openNothing(): number {
  return (nothing ??= addon().openNull());
}
