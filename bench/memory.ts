import { readdirSync, readFileSync } from 'node:fs';
import type { Daemon } from './runtimes';

/** Proportional set size of processes, in bytes; of one that has ended, none. */
export function bytesOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + pssOf(pid), 0);
}

function pssOf(pid: number): number {
  const kilobytes = /^Pss:\s+(\d+) kB$/m.exec(text(`/proc/${pid}/smaps_rollup`))?.[1];
  return Number(kilobytes ?? 0) * 1024;
}

/** What a daemon has started for its pods and is not their workload: monitors, shims, pause containers. */
export function podProcesses(daemon: Daemon, isBerth: boolean): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number)
    .filter(pid => {
      const argv = text(`/proc/${pid}/cmdline`).split('\0');
      if (isBerth) return argv[0] === 'berth-helper' && isBelow(pid, daemon.pid);
      const isShim = (each: number) => text(`/proc/${each}/cmdline`).includes('containerd-shim');
      // A pause container is what a shim runs and is the image's program with nothing to do.
      return isShim(pid) || (argv.length <= 3 && isShim(parentOf(pid)) && isPause(pid));
    });
}

/** The benchmark's own image stands in for the pause image; a workload has the argument `wait` from its config. */
function isPause(pid: number): boolean {
  return text(`/proc/${pid}/environ`) === '' ? false : !text(`/proc/${pid}/cgroup`).includes('berth-bench');
}

function isBelow(pid: number, ancestor: number): boolean {
  for (let at = pid; at > 1; at = parentOf(at)) if (at === ancestor) return true;
  return false;
}

function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)$/m.exec(text(`/proc/${pid}/status`))?.[1] ?? 0);
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
