import { readFileSync } from 'node:fs';
import { access, mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BerthError, errnoOf, isAbsent, messageOf } from '../base/errors';
import { directories, isUnified, type Hierarchies } from './hierarchies';
import type { LimitWrite } from './limits';

/** Where a new process must be put to be in a cgroup. */
export interface Placement {
  /** The v2 directory to be born into. */
  v2Directory: string | undefined;
  /**
   * `tasks` of each v1 hierarchy, for a process that has one thread and writes 0, itself. That is the one way in
   * that takes no lock of all processes, whose taking waits for RCU: 7 to 14 ms (Linux 5.5: "Optimize single thread migration").
   */
  v1Tasks: string[];
  /** `cgroup.kill`, where the kernel has v2 (since 5.14). */
  killFile: string | undefined;
}

const CREATE_ATTEMPTS = 5;

/** How long a cgroup that the kernel still calls busy is tried again; its processes are dead by then. */
const REMOVE_WITHIN_MS = 5000;

/**
 * The cgroups of one host, by path (`/kubepods/burstable/podX/ID`), the same in
 * each hierarchy. The cgroupfs driver: berth makes the directories itself.
 */
export class Cgroups {
  constructor(private readonly hierarchies: Hierarchies) {}

  /** True when the controllers are v2's. */
  get unified(): boolean {
    return isUnified(this.hierarchies);
  }

  /** What containers are shown: see oci/host-facts.ts. */
  get trees(): { isUnified: boolean; v1: readonly (readonly string[])[] } {
    return { isUnified: this.unified, v1: this.hierarchies.v1.map(({ controllers }) => controllers) };
  }

  /** Makes the cgroup, with its parents, in every hierarchy. Being there already is fine. */
  async create(path: string): Promise<Placement> {
    for (let attempt = 1; ; attempt++) {
      const made = await Promise.allSettled(
        directories(this.hierarchies, path).map(dir => this.makeDirectory(dir, path)),
      );
      const failed = made.find(result => result.status === 'rejected');
      if (!failed) return this.placement(path);
      // An empty parent may be removed, with the last cgroup in it, while this one is made.
      const { reason } = failed as { reason: BerthError };
      if (!isAbsent(reason.cause) || attempt === CREATE_ATTEMPTS) throw reason;
    }
  }

  placement(path: string): Placement {
    const { v1, v2 } = this.hierarchies;
    const v2Directory = v2 === undefined ? undefined : join(v2, path);
    return {
      v2Directory,
      v1Tasks: v1.map(h => join(h.mountpoint, path, 'tasks')),
      killFile: v2Directory === undefined ? undefined : join(v2Directory, 'cgroup.kill'),
    };
  }

  /** Writes limits, in order. A controller that this host lacks is an error that names it. */
  async limit(path: string, writes: readonly LimitWrite[]): Promise<void> {
    for (const { controller, file, value } of writes) {
      const dir = this.directoryOf(controller, path);
      if (dir === undefined) {
        throw new BerthError(
          'failed_precondition',
          `set ${file}=${value}: this host has no ${controller} cgroup controller`,
        );
      }
      try {
        await writeFile(join(dir, file), value);
      } catch (error) {
        throw new BerthError('invalid_argument', `set ${file}=${value} on cgroup ${path}: ${messageOf(error)}`, {
          cause: error,
        });
      }
    }
  }

  /** Processes in the cgroup and below that the OOM killer has ended, or 0n where the kernel does not count them. */
  oomKills(path: string): bigint {
    const dir = this.directoryOf('memory', path);
    if (dir === undefined) return 0n;
    const file = join(dir, this.unified ? 'memory.events' : 'memory.oom_control');
    try {
      return BigInt(/^oom_kill (\d+)$/m.exec(readFileSync(file, 'utf8'))?.[1] ?? 0);
    } catch (error) {
      if (isAbsent(error)) return 0n;
      throw error;
    }
  }

  /** Ends every process in the cgroup. Returns at once: the kernel finishes on its own. */
  async kill(path: string): Promise<void> {
    const { killFile } = this.placement(path);
    if (killFile !== undefined) {
      try {
        await writeFile(killFile, '1');
        return;
      } catch (error) {
        if (isAbsent(error) && !(await this.exists(path))) return;
      }
    }
    for (const pid of await this.processes(path)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // ESRCH: it has ended meanwhile.
      }
    }
  }

  /** Kills what is left in the cgroup and removes it, and its parent `removeParent` when that is empty then. */
  async remove(path: string, removeParent?: string): Promise<void> {
    await this.kill(path);
    await Promise.all(directories(this.hierarchies, path).map(dir => removeDirectory(dir)));
    if (removeParent === undefined) return;
    await Promise.allSettled(directories(this.hierarchies, removeParent).map(dir => rmdir(dir)));
  }

  /** Process ids in the cgroup, of all hierarchies together. */
  async processes(path: string): Promise<number[]> {
    const pids = new Set<number>();
    for (const dir of directories(this.hierarchies, path)) {
      const text = await readFile(join(dir, 'cgroup.procs'), 'utf8').catch(() => '');
      for (const line of text.split('\n')) if (line !== '') pids.add(Number(line));
    }
    return [...pids];
  }

  private async exists(path: string): Promise<boolean> {
    const looks = directories(this.hierarchies, path).map(dir => access(dir));
    return (await Promise.allSettled(looks)).some(({ status }) => status === 'fulfilled');
  }

  private directoryOf(controller: string, path: string): string | undefined {
    if (this.unified) return this.hierarchies.v2 === undefined ? undefined : join(this.hierarchies.v2, path);
    const hierarchy = this.hierarchies.v1.find(h => h.controllers.includes(controller));
    return hierarchy && join(hierarchy.mountpoint, path);
  }

  private async makeDirectory(dir: string, path: string): Promise<void> {
    const root = dir.slice(0, dir.length - path.length) || '/';
    try {
      await mkdir(dir, { recursive: true });
      if (root === this.hierarchies.v2) await enableControllers(root, dir);
      else if (this.isCpuset(root)) await inheritCpuset(root, dir);
    } catch (error) {
      throw new BerthError('internal', `make cgroup ${dir}: ${messageOf(error)}`, { cause: error });
    }
  }

  private isCpuset(root: string): boolean {
    return this.hierarchies.v1.some(h => h.mountpoint === root && h.controllers.includes('cpuset'));
  }
}

/** The directories from below `root` down to `dir`. */
function* pathDown(root: string, dir: string): Generator<string> {
  let at = root;
  for (const part of dir.slice(root.length).split('/')) {
    if (part === '') continue;
    at = join(at, part);
    yield at;
  }
}

/** A v2 cgroup has the controllers that its parents pass on. */
async function enableControllers(root: string, dir: string): Promise<void> {
  for (let parent = root; parent !== dir;) {
    const available = readWord(join(parent, 'cgroup.controllers'));
    const enabled = new Set(readWord(join(parent, 'cgroup.subtree_control')).split(' '));
    const missing = available.split(' ').filter(name => name !== '' && !enabled.has(name));
    for (const name of missing) {
      // A controller that cannot be passed on (EBUSY: processes in the parent) is missed only by who sets its limits.
      await writeFile(join(parent, 'cgroup.subtree_control'), `+${name}`).catch(() => undefined);
    }
    const next = dir
      .slice(parent.length)
      .split('/')
      .find(part => part !== '');
    if (next === undefined) return;
    parent = join(parent, next);
  }
}

/** A v1 cpuset takes no process before it has CPUs and memory nodes. */
async function inheritCpuset(root: string, dir: string): Promise<void> {
  for (const at of pathDown(root, dir)) {
    const missing = ['cpuset.cpus', 'cpuset.mems'].filter(file => readWord(join(at, file)) === '');
    await Promise.all(missing.map(file => writeFile(join(at, file), readWord(join(dirname(at), file)))));
  }
}

/**
 * Reads a file that the kernel fills from memory without taking cgroup_mutex, at
 * once, where the pool takes four turns. Writes may wait, and go there.
 */
function readWord(path: string): string {
  return readFileSync(path, 'utf8').trim();
}

/** rmdir of a cgroup answers EBUSY while the kernel takes its last processes apart. */
async function removeDirectory(dir: string): Promise<void> {
  const until = Date.now() + REMOVE_WITHIN_MS;
  for (let waitMs = 1; ; waitMs = Math.min(waitMs * 2, 100)) {
    try {
      await rmdir(dir);
      return;
    } catch (error) {
      if (isAbsent(error)) return;
      if (errnoOf(error) !== 'EBUSY' || Date.now() > until) {
        throw new BerthError('internal', `remove cgroup ${dir}: ${messageOf(error)}`, {
          cause: error,
          hint: 'processes in it do not end; look for ones in state D',
        });
      }
    }
    await sleep(waitMs);
  }
}
