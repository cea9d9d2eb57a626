import { closeSync } from 'node:fs';
import { errnoOf, isAbsent } from '../base/errors';
import { addon } from '../native/addon';

/** Clock ticks since boot at which a process started; undefined when there is none of this pid, or it has ended and waits to be reaped. */
export function startTimeOf(pid: number): bigint | undefined {
  try {
    const stat = addon().readText(`/proc/${pid}/stat`);
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : BigInt(fields[19] ?? 0);
  } catch (error) {
    if (isAbsent(error) || errnoOf(error) === 'ESRCH') return undefined;
    throw error;
  }
}

/**
 * A pidfd of the very process that had this pid and start time; undefined when
 * it has ended, even if another has its pid now. The caller closes it.
 */
export function openProcess(pid: number, pidStartTime: bigint): number | undefined {
  let pidfd: number;
  try {
    pidfd = addon().pidfdOpen(pid);
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') return undefined;
    throw error;
  }
  let isSame = false;
  try {
    isSame = startTimeOf(pid) === pidStartTime;
  } finally {
    if (!isSame) closeSync(pidfd);
  }
  return isSame ? pidfd : undefined;
}

/** Whether the helper with this pid was started for `name`: a pod, a container. */
export function isHelperFor(pid: number, name: string): boolean {
  try {
    const [program, , subject] = addon().readText(`/proc/${pid}/cmdline`).split('\0');
    return program === 'berth-helper' && subject === name;
  } catch (error) {
    if (isAbsent(error) || errnoOf(error) === 'ESRCH') return false;
    throw error;
  }
}

/** Calls back once when the very process that had this pid and start time has ended; at once when it already has. */
export function whenProcessEnds(pid: number, pidStartTime: bigint, onEnd: () => void): void {
  const pidfd = openProcess(pid, pidStartTime);
  if (pidfd === undefined) return onEnd();
  const stop = addon().watch(pidfd, () => {
    stop();
    closeSync(pidfd);
    onEnd();
  });
}

/** Sends a signal to the very process that had this pid and start time; false when it has ended. */
export function signalProcess(pid: number, pidStartTime: bigint, signal: number): boolean {
  const pidfd = openProcess(pid, pidStartTime);
  if (pidfd === undefined) return false;
  try {
    addon().pidfdSignal(pidfd, signal);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') return false;
    throw error;
  } finally {
    closeSync(pidfd);
  }
}
