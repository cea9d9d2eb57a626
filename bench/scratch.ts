import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cgroups } from '../src/cgroup/groups';
import { directories, readHierarchies } from '../src/cgroup/hierarchies';

/** What a benchmark may litter: all of it goes, whatever happens. */
export interface Scratch {
  dir: string;
  /** A tmpfs, as /run is: for what everybody measured keeps there on a node. */
  run: string;
  cgroups: Cgroups;
  /** Below every mount point of cgroups; what a benchmark starts lies below it. */
  cgroup: string;
  /** Throws after SIGINT or SIGTERM, so that the benchmark ends early and in order. */
  throwIfInterrupted(): void;
}

const END_WITHIN_MS = 10_000;
const INSIDE = 'BERTH_BENCH_HAS_OWN_MOUNTS';

/**
 * Runs `work` as root in a mount namespace of its own: what it mounts goes with
 * its last process. There, on a host with v1 and v2 cgroups, v2 offers no
 * controllers: crun 1.8 refuses such a host otherwise. Everybody measured sees
 * the same, so nobody pays for a wrapper.
 */
export async function inScratch(work: (scratch: Scratch) => Promise<void>): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('containers are started: run this as root');
  if (process.env[INSIDE] === undefined) return inOwnMounts();
  const cgroup = `/berth-bench-${process.pid}`;
  const dir = mkdtempSync(join(tmpdir(), 'berth-bench-'));
  const cgroups = new Cgroups(readHierarchies());
  let isInterrupted = false;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => (isInterrupted = true));
  const throwIfInterrupted = () => {
    if (isInterrupted) throw new Error('interrupted');
  };
  try {
    const run = join(dir, 'run');
    mkdirSync(run);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=700', 'berth-bench', run]);
    await cgroups.create(cgroup);
    await work({ dir, run, cgroups, cgroup, throwIfInterrupted });
  } finally {
    // What a benchmark that broke off has left running.
    await cgroups.kill(cgroup);
    await cgroups.emptied(cgroup, AbortSignal.timeout(END_WITHIN_MS));
    removeCgroups(cgroup);
    unmountBelow(dir);
    rmSync(dir, { recursive: true, force: true });
  }
}

async function inOwnMounts(): Promise<void> {
  const hideControllers = hybridControllers().map(file => `mount --bind /dev/null '${file}' && `);
  const script = `${hideControllers.join('')}exec "$@"`;
  const child = spawn('unshare', ['--mount', 'sh', '-c', script, 'sh', process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, [INSIDE]: '1' },
  });
  // The terminal's Ctrl-C reaches the child, too; it cleans up, and then this process ends.
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  process.exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}

function hybridControllers(): string[] {
  const { v1, v2 } = readHierarchies();
  if (v2 === undefined || v1.length === 0) return [];
  const file = join(v2, 'cgroup.controllers');
  return readFileSync(file, 'utf8').trim() === '' ? [] : [file];
}

/** Depth first: a cgroup with children cannot be removed. */
function removeCgroups(path: string): void {
  for (const dir of directories(readHierarchies(), path)) {
    execFileSync('find', [dir, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';'], { stdio: 'ignore' });
  }
}

function unmountBelow(dir: string): void {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .filter(point => point.startsWith(`${dir}/`));
  for (const point of points.reverse()) execFileSync('umount', ['--lazy', point]);
}

/** The static program that containers run; see task.c. */
export function buildTask(dir: string, source: string): string {
  const program = join(dir, 'task');
  execFileSync('musl-gcc', ['-static', '-Os', '-s', '-o', program, source]);
  return program;
}

/** The path of an installed program, or undefined after a sentence about it. BERTH_BENCH_RUNC and the like name another. */
export function findPeer(name: string): string | undefined {
  const named = process.env[`BERTH_BENCH_${name.toUpperCase()}`];
  if (named !== undefined) return named;
  for (const dir of ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']) {
    const path = join(dir, name);
    try {
      execFileSync(path, ['--version'], { stdio: 'ignore' });
      return path;
    } catch {
      // Not here, or not one that works.
    }
  }
  console.log(`${name} is not installed: it is left out.`);
  return undefined;
}

export function versionOf(program: string): string {
  const text = execFileSync(program, ['--version'], { encoding: 'utf8' });
  return /\d+\.\d+(\.\d+)?/.exec(text)?.[0] ?? 'of unknown version';
}

/** The number after the script's name, or `otherwise`. */
export function roundsOr(otherwise: number): number {
  const asked = Number(process.argv[2] ?? otherwise);
  if (Number.isInteger(asked) && asked > 0) return asked;
  throw new Error(`the number of rounds, ${process.argv[2]}, is not a positive whole number`);
}
