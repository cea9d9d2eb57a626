import { closeSync, constants, openSync, writeFileSync } from 'node:fs';
import { errnoOf, isAbsent } from '../base/errors';

/**
 * Sets oom_score_adj of processes; what they start has it, too. One that has
 * ended is passed over. Lowering takes CAP_SYS_RESOURCE, and without it the
 * present value stays, as at a container's start.
 */
export function setOomScoreAdj(pids: readonly number[], value: number): void {
  for (const pid of pids) {
    try {
      write(pid, value);
    } catch (error) {
      const isLeft = isAbsent(error) || ['ESRCH', 'EACCES', 'EPERM'].includes(errnoOf(error) ?? '');
      if (!isLeft) throw error;
    }
  }
}

/** Through the process's directory: it is held, and its pid may be another's. */
function write(pid: number, value: number): void {
  const dir = openSync(`/proc/${pid}`, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    writeFileSync(`/proc/self/fd/${dir}/oom_score_adj`, String(value));
  } finally {
    closeSync(dir);
  }
}
