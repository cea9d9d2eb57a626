import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startTimeOf } from '../../src/process/identity';

/** Names of the cgroups directly below a directory. */
export function cgroupsBelow(dir: string): string[] {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { withFileTypes: true })
    .filter(entry => entry.isDirectory())
    .map(entry => entry.name);
}

/** Pids in cgroups and below. */
export function processesIn(dirs: readonly string[]): number[] {
  const pids = new Set<number>();
  const collect = (dir: string) => {
    const text = readFileSync(join(dir, 'cgroup.procs'), 'utf8');
    for (const line of text.split('\n')) if (line !== '') pids.add(Number(line));
    for (const sub of cgroupsBelow(dir)) collect(join(dir, sub));
  };
  for (const dir of dirs) {
    try {
      collect(dir);
    } catch {
      // A cgroup may go while it is read.
    }
  }
  return [...pids];
}

export function mountNamespaceOf(pid: number): string | undefined {
  return linkOf(`/proc/${pid}/ns/mnt`);
}

export function processesWithMountNamespace(namespace: string | undefined): number[] {
  if (namespace === undefined) return [];
  return allPids().filter(pid => mountNamespaceOf(pid) === namespace);
}

/**
 * The inits of pods' PID namespaces, which share nothing with their daemon: those of these pods, or those as young as a
 * process whose pods the log of a daemon knows. Other daemons on the machine have theirs.
 */
export function podInits(which: { ids: readonly string[] } | { notOlderThan: number; of: string }): number[] {
  return allPids().filter(pid => {
    const [program, role, id = ''] = commandLine(pid);
    if (program !== 'berth-helper' || role !== 'pin') return false;
    if ('ids' in which) return which.ids.includes(id);
    return which.of.includes(id) && (startTimeOf(pid) ?? 0n) >= (startTimeOf(which.notOlderThan) ?? 0n);
  });
}

/** Kills a process and waits until it has let go of all it had open: a signal that is sent is not one that has arrived. */
export async function killAndWait(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  while (existsSync(`/proc/${pid}`) && !hasEnded(pid)) await sleep(5);
}

/** Whether a process is a zombie, whose files are closed. */
function hasEnded(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return /^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return true;
  }
}

export function commandLine(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
  } catch {
    return [];
  }
}

export function allPids(): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number);
}

export function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** A process, or the group of one, by its number below 0. */
export function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}
