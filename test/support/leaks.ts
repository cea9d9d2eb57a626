import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestDaemon } from './daemon';
import {
  allPids,
  cgroupsBelow,
  commandLine,
  linkOf,
  mountNamespaceOf,
  podInits,
  processesIn,
  processesWithMountNamespace,
} from './processes';

/** What a daemon and its containers hold of the machine, as lines that can be compared. */
export type Snapshot = Record<'mounts' | 'processes' | 'namespaces' | 'cgroups' | 'files' | 'fds', string[]>;

/** Everything below a daemon's directories, namespaces and cgroups as it is now. */
export function snapshot(daemon: TestDaemon): Snapshot {
  const mountinfo = readFileSync(`/proc/${daemon.holderPid}/mountinfo`, 'utf8').trim().split('\n');
  const all = processes(daemon);
  const spares = all.filter(isSpare).slice(0, SPARES);
  const pids = all.filter(pid => !spares.includes(pid));
  return {
    mounts: mountinfo.map(line => line.split(' ').slice(3, 5).join(' at ')).sort(),
    processes: pids.map(pid => describeProcess(pid)).sort(),
    namespaces: namespaces(mountinfo, pids),
    cgroups: daemon.cgroupRoots.flatMap(dir => tree(dir, cgroupsBelow)).sort(),
    files: [daemon.state, join(daemon.root, 'containers')].flatMap(dir => tree(dir, namesIn)).sort(),
    fds: fdsBut(spares.length, fds(daemon.pid)),
  };
}

/** A readable list of what is there now and was not before; empty when nothing is. */
export function leaked(before: Snapshot, after: Snapshot): string[] {
  const kinds = Object.keys(before) as (keyof Snapshot)[];
  return kinds.flatMap(kind => more(before[kind], after[kind]).map(line => `${kind}: ${line}`));
}

function more(before: readonly string[], after: readonly string[]): string[] {
  const left = [...before];
  return after.filter(line => {
    const at = left.indexOf(line);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}

function processes(daemon: TestDaemon): number[] {
  const ours = new Set([
    ...processesIn(daemon.cgroupRoots),
    ...processesWithMountNamespace(mountNamespaceOf(daemon.holderPid)),
    ...allPids().filter(pid => parentOf(pid) === daemon.pid),
    ...podInits({ notOlderThan: daemon.holderPid, of: daemon.log }),
  ]);
  ours.delete(daemon.pid);
  ours.delete(daemon.holderPid);
  return [...ours];
}

/** So many helpers wait for a role once one was needed (src/native/spare-helpers.ts); one more would be a leak. */
const SPARES = 2;

function isSpare(pid: number): boolean {
  const [program, role] = commandLine(pid);
  return program === 'berth-helper' && role === 'spare';
}

/** The daemon has a socket and a pidfd of each spare. */
function fdsBut(spares: number, all: readonly string[]): string[] {
  const left = [...all];
  for (const kind of ['socket:', 'anon_inode:[pidfd]']) {
    for (let i = 0; i < spares && left.includes(kind); i++) left.splice(left.indexOf(kind), 1);
  }
  return left;
}

function describeProcess(pid: number): string {
  const cmdline = readIfThere(`/proc/${pid}/cmdline`).split('\0').join(' ').trim();
  return `${pid} ${cmdline || 'zombie'}`;
}

export function parentOf(pid: number): number {
  const stat = readIfThere(`/proc/${pid}/stat`);
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? 0);
}

function namespaces(mountinfo: readonly string[], pids: readonly number[]): string[] {
  const found = new Set<string>();
  for (const line of mountinfo) {
    const root = line.split(' ')[3] ?? '';
    if (/^\w+:\[\d+\]$/.test(root)) found.add(root);
  }
  for (const pid of pids) {
    for (const name of ['net', 'ipc', 'uts', 'pid', 'cgroup', 'user']) {
      const link = linkOf(`/proc/${pid}/ns/${name}`);
      if (link !== undefined) found.add(link);
    }
  }
  return [...found].sort();
}

function tree(dir: string, below: (dir: string) => string[]): string[] {
  return below(dir).flatMap(name => [join(dir, name), ...tree(join(dir, name), below)]);
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

/** By kind: the numbers of sockets and pipes differ from one to the next. */
function fds(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`)
    .map(fd => linkOf(`/proc/${pid}/fd/${fd}`) ?? '')
    .filter(link => link !== '')
    .map(link => link.replace(/\[\d+\]/, ''))
    .sort();
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Resident memory in bytes. */
export function residentBytes(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readIfThere(`/proc/${pid}/status`))?.[1];
  return Number(kilobytes ?? 0) * 1024;
}
