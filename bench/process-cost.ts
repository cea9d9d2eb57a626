import { readFileSync } from 'node:fs';

/** What a process and all that it started have cost. */
export interface Cost {
  /** CPU seconds, children included. */
  readonly cpuSeconds: number;
  /** The largest sum of resident memory seen; pages that processes share count in each. */
  readonly peakBytes: number;
}

const ticksPerSecond = 100; // USER_HZ, what /proc counts in on every architecture of ours
const pageBytes = 4096;
const sampleMs = 20;

/** Watches `pid` and its descendants from now on; the result says what they cost since. */
export function watchCost(pid: number): () => Cost {
  const before = cpuSecondsOf(pid);
  let peakBytes = 0;
  const sample = () => (peakBytes = Math.max(peakBytes, residentBytes(pid)));
  sample();
  const timer = setInterval(sample, sampleMs).unref();
  return () => {
    clearInterval(timer);
    sample();
    return { cpuSeconds: cpuSecondsOf(pid) - before, peakBytes };
  };
}

/** Of the process, its children that ended, and its descendants that live. */
function cpuSecondsOf(pid: number): number {
  return family(pid).reduce((sum, each) => sum + cpuSecondsIn(text(`/proc/${each}/stat`)), 0);
}

/** Of a line of /proc/<pid>/stat: utime, stime, cutime, cstime (proc(5)). */
export function cpuSecondsIn(stat: string): number {
  // The name before them may hold blanks.
  const fields = stat.replace(/^.*\) /, '').split(' ');
  return fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0) / ticksPerSecond;
}

function residentBytes(pid: number): number {
  return family(pid).reduce((sum, each) => sum + Number(text(`/proc/${each}/statm`).split(' ')[1] ?? 0), 0) * pageBytes;
}

function family(pid: number): number[] {
  const children = text(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
  return [pid, ...children.flatMap(family)];
}

/** Empty for a process that has just ended. */
function text(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}
