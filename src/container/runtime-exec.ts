import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import { BerthError } from '../base/errors';
import { externalExecPlan } from '../oci/external-plan';
import { processJson, type ResolvedUser } from '../oci/oci-json';
import type { ProcessSpec } from '../oci/spec';
import { startExec, type ExecStart, type RunningExec } from '../process/exec';
import { signalProcess, startTimeOf } from '../process/identity';
import type { OciRuntime } from '../process/oci-runtime';

export interface RuntimeExec {
  id: string;
  stateDir: string;
  process: ProcessSpec;
  user: ResolvedUser;
}

const SIGKILL = 9;

/**
 * Runs one more process in a container that an OCI runtime made, by the runtime's
 * exec. What kills it also kills the process inside, whose parent the runtime is
 * and which is in a session of its own.
 */
export async function execByRuntime(
  runtime: OciRuntime,
  { id, stateDir, process, user }: RuntimeExec,
  start: Omit<ExecStart, 'plan'>,
): Promise<RunningExec> {
  const base = join(stateDir, `exec-${randomUUID()}`);
  const files = { log: `${base}.log`, process: `${base}.json`, pidFile: `${base}.pid` };
  const remove = () => Promise.all(Object.values(files).map(file => rm(file, { force: true })));
  const killInside = () => void signalInside(files.pidFile, SIGKILL);
  try {
    await writeFile(files.process, processJson(process, user), { mode: 0o600 });
    const plan = externalExecPlan(runtime.exec(files, id), start.stdin);
    start.signal?.addEventListener('abort', killInside, { once: true });
    const exec = await startExec({ ...start, plan });
    const exited = exec.exited
      .then(async exit => {
        const said = exit.exitCode === 0 ? '' : await runtime.saidIn(files.log);
        if (said === '') return exit;
        throw new BerthError('failed_precondition', `runtime ${runtime.name}: exec in container ${id}: ${said}`);
      })
      .finally(remove);
    exited.catch(() => undefined);
    return {
      ...exec,
      exited,
      kill: signal => {
        signalInside(files.pidFile, signal)
          .then(isThere => {
            if (!isThere) exec.kill(signal);
          })
          .catch(() => exec.kill(signal));
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** False while there is no process inside yet, or none any more. */
async function signalInside(pidFile: string, signal: number): Promise<boolean> {
  const pid = Number(await readFile(pidFile, 'utf8').catch(() => '0'));
  const startTime = pid > 0 ? startTimeOf(pid) : undefined;
  return startTime !== undefined && signalProcess(pid, startTime, signal);
}
