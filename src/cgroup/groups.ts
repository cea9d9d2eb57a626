import { existsSync } from 'node:fs';
import { mkdir, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BerthError, isAbsent, kindOf, messageOf } from '../base/errors';
import { hasDeviceControl, limitDevices, type DeviceRule } from './devices';
import { addon } from '../native/addon';
import { fileCallError, fileCalls } from '../native/file-calls';
import { readIfThere, readWord } from './files';
import { killAll, processesBelow } from './freeze';
import { directories, homeOf, isUnified, type Hierarchies } from './hierarchies';
import { limitWrites, type Limits } from './limits';
import { limitReachedAbove, oomEvents, type OomEvents } from './oom';
import { cgroupfsParent } from './parent';
import { isPaused, pause, unpause } from './pause';
import { emptied, removeCgroup } from './remove';
import { containerPath, scopeOf, slicePath, sliceOf } from './systemd/names';
import type { Units } from './systemd/units';
import { assertDomain, passControllersOn } from './v2';
import { changeLimits, limitError, type FileWrite } from './update';
import type { CgroupTable } from './table';
import { usageTable, type Usage } from './usage';
import { detailsTable, type Details } from './details';
import { readIo, type DeviceIo } from './io';
import { membersOf } from './members';

/** Who makes cgroups; the kubelet must use the same. */
export type CgroupDriverName = 'cgroupfs' | 'systemd';

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

/** How long the processes of a scope may take to end, once killed, before systemd is asked to end it. */
const EMPTY_WITHIN_MS = 5000;

/**
 * The cgroups of one host, by path (`/kubepods/burstable/podX/ID`), the same in each hierarchy. The driver cgroupfs makes
 * the directories itself. The driver systemd, which there is with `units`, has systemd make a scope for each container and
 * a slice for each pod of berth's own; the container's cgroup is below its scope, and in berth's hands as with cgroupfs.
 */
export class Cgroups {
  private readonly usages: CgroupTable<Usage>;
  private readonly detailed: CgroupTable<Details>;

  constructor(
    private readonly hierarchies: Hierarchies,
    readonly units?: Units,
  ) {
    this.usages = usageTable(hierarchies);
    this.detailed = detailsTable(hierarchies);
  }

  get driver(): CgroupDriverName {
    return this.units ? 'systemd' : 'cgroupfs';
  }

  /** The path of a request's cgroup_parent. Throws `invalid_argument` for one that this driver cannot use. */
  parentPath(asked: string): string {
    return this.units ? slicePath(asked) : cgroupfsParent(asked);
  }

  /** The cgroup of a pod of which no request says where it is to be. */
  ownParentPath(podId: string): string {
    return this.units ? slicePath(`berth-${podId}.slice`) : `/berth/${podId}`;
  }

  /** Where the processes of a container of a pod are. */
  containerPath(parent: string, id: string): string {
    return this.units ? containerPath(parent, id) : join(parent, id);
  }

  /** The pod's cgroup of a container's. */
  podPath(path: string): string {
    return dirname(scopeOf(path)?.path ?? path);
  }

  /** Makes a pod's cgroup with its limits; with none, one that is somebody else's: it may be there already. */
  async makePod(path: string, limits: Limits | undefined): Promise<void> {
    const slice = this.units && sliceOf(path);
    // Somebody else's slice is there with the first scope that is put in it.
    if (slice !== undefined && !limits) return;
    if (slice !== undefined) await this.units?.startSlice(slice, limits ?? {});
    await this.create(path);
    if (limits) await this.limit(path, limits);
  }

  /** Makes a container's cgroup with its limits. */
  async makeContainer(path: string, limits: Limits, devices: readonly DeviceRule[]): Promise<Placement> {
    const scope = scopeOf(path);
    if (this.units && scope) await this.units.startScope(scope, limits, devices);
    const placement = await this.create(path);
    await Promise.all([this.limit(path, limits), this.limitDevices(path, devices)]);
    return placement;
  }

  /** True when the controllers are v2's. */
  get unified(): boolean {
    return isUnified(this.hierarchies);
  }

  /** True when the kernel ends all of a cgroup by one write, whoever makes it: v2's alone. */
  get hasKillFile(): boolean {
    return this.hierarchies.v2 !== undefined;
  }

  /** What containers are shown: see oci/host-facts.ts. */
  get trees(): { isUnified: boolean; v1: readonly (readonly string[])[]; v2?: string } {
    const { v1, v2 } = this.hierarchies;
    const names = v1.map(({ controllers }) => controllers);
    return { isUnified: this.unified, v1: names, ...(v2 === undefined ? {} : { v2 }) };
  }

  /** Makes the cgroup, with its parents, in every hierarchy. Being there already is fine. */
  async create(path: string): Promise<Placement> {
    const dirs = directories(this.hierarchies, path);
    // Mostly the parents are there.
    const failures = await fileCalls(dirs.map(dir => ({ call: 'mkdir', path: dir, mode: 0o755 })));
    const missing = new Set(failures.filter(({ code }) => code !== 'EEXIST').map(({ call }) => call.path));
    for (let attempt = 1; ; attempt++) {
      const made = await Promise.allSettled(
        dirs.map(dir => this.makeDirectory(dir, path, attempt === 1 && !missing.has(dir))),
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

  /**
   * Where one more process of a cgroup's must be put. A first process that has moved into a v2 cgroup of its own below
   * (systemd does) has others beside it there: once controllers are passed on, v2 takes none above.
   */
  placementBeside(path: string, pid: number): Placement {
    const { v2Directory, ...placement } = this.placement(path);
    return { ...placement, v2Directory: v2Directory === undefined ? undefined : join(v2Directory, below(path, pid)) };
  }

  /** Sets limits on a new cgroup. A controller that this host lacks is an error that names it. */
  async limit(path: string, limits: Limits): Promise<void> {
    const writes = this.writesFor(path, limits);
    const failures = await fileCalls(
      writes.map(({ path: file, value }) => ({ call: 'write', path: file, data: value })),
    );
    for (const failure of failures) {
      const limit = writes[failure.index];
      if (limit && !(limit.ifThere && failure.code === 'ENOENT')) throw limitError(limit, fileCallError(failure));
    }
  }

  /**
   * Changes limits of a cgroup in use: all that are given, or none. A value that the kernel does not take is
   * `invalid_argument`, or `failed_precondition` when what is in use forbids it. Resolves with what puts the former
   * values back.
   */
  async changeLimits(path: string, limits: Limits): Promise<() => Promise<void>> {
    const changeFiles = () => changeLimits(this.writesFor(path, limits));
    const undo = await (this.units ? this.units.change(path, limits, changeFiles) : changeFiles());
    addon().wakeTable();
    return async () => {
      await undo();
      addon().wakeTable();
    };
  }

  /** True when what a container may do with devices can be held to rules here. */
  get hasDeviceControl(): boolean {
    return hasDeviceControl(this.hierarchies);
  }

  async limitDevices(path: string, rules: readonly DeviceRule[]): Promise<void> {
    await limitDevices(this.hierarchies, path, rules);
  }

  /** What the OOM killer did in the cgroup and below; nothing once the cgroup is gone. */
  oomEvents(path: string): OomEvents {
    const events = oomEvents(this.hierarchies, path);
    const scope = scopeOf(path)?.path;
    // The scope has the same limit, and a little more in it.
    return scope !== undefined && oomEvents(this.hierarchies, scope).atLimit ? { ...events, atLimit: true } : events;
  }

  /** What each of these cgroups uses, in their order. */
  async usage(paths: readonly string[]): Promise<Usage[]> {
    return this.usages.read(paths);
  }

  /** What there is to say of them beside that. */
  async details(paths: readonly string[]): Promise<Details[]> {
    return this.detailed.read(paths);
  }

  /** What each of these cgroups has read from disks and written to them. */
  async io(paths: readonly string[]): Promise<DeviceIo[][]> {
    return readIo(this.hierarchies, paths);
  }

  /** Pids in each of these cgroups, without those in cgroups that a container made below. */
  async members(paths: readonly string[]): Promise<number[][]> {
    return membersOf(this.hierarchies, paths);
  }

  /** The nearest cgroup above whose limit of memory was ever reached. */
  limitReachedAbove(path: string): string | undefined {
    return limitReachedAbove(this.hierarchies, scopeOf(path)?.path ?? path);
  }

  /** Ends every process in the cgroup and below. Returns at once: the kernel finishes on its own. */
  async kill(path: string): Promise<void> {
    await killAll(this.hierarchies, path);
  }

  /** Holds every process in the cgroup and below still; see pause.ts. */
  async pause(path: string, signal: AbortSignal): Promise<boolean | undefined> {
    return pause(this.hierarchies, path, signal);
  }

  async unpause(path: string): Promise<void> {
    await unpause(this.hierarchies, path);
  }

  isPaused(path: string): boolean {
    return isPaused(this.hierarchies, path);
  }

  /** True once no process is in the cgroup any more; false when `signal` aborts before. */
  async emptied(path: string, signal: AbortSignal): Promise<boolean> {
    return emptied(this.hierarchies, path, signal);
  }

  /** Kills what is left in the cgroup and removes it, and its parent `removeParent` when that is empty then. */
  async remove(path: string, removeParent?: string): Promise<void> {
    const whole = scopeOf(path)?.path ?? path;
    const failures: unknown[] = [];
    await this.endUnit(path, whole).catch((error: unknown) => failures.push(error));
    await removeCgroup(this.hierarchies, whole).catch((error: unknown) => failures.push(error));
    if (failures.length > 0) {
      const [cause] = failures;
      throw new BerthError(kindOf(cause), failures.map(messageOf).join('; '), { cause });
    }
    // A slice stays for the next pod: systemd would not know that it is gone.
    if (removeParent === undefined || sliceOf(removeParent) !== undefined) return;
    await Promise.allSettled(directories(this.hierarchies, removeParent).map(dir => rmdir(dir)));
  }

  /** Pids in the cgroup and below. */
  processes(path: string): number[] {
    return processesBelow(this.hierarchies, path);
  }

  /** Before its cgroup goes, so that systemd hears of the end from itself. */
  private async endUnit(path: string, whole: string): Promise<void> {
    const { units } = this;
    if (!units || !directories(this.hierarchies, whole).some(dir => existsSync(dir))) return;
    await killAll(this.hierarchies, whole);
    if (await this.emptied(whole, AbortSignal.timeout(EMPTY_WITHIN_MS))) await units.stop(path);
  }

  private writesFor(path: string, limits: Limits): FileWrite[] {
    const writes = limitWrites(limits, controller => homeOf(this.hierarchies, controller)?.version);
    return writes.flatMap(limit => {
      const home = homeOf(this.hierarchies, limit.controller);
      if (home) return [{ ...limit, root: home.mountpoint, path: join(home.mountpoint, path, limit.file) }];
      if (limit.ifThere) return [];
      throw new BerthError(
        'failed_precondition',
        `set ${limit.file}=${limit.value}: this host has no ${limit.controller} cgroup controller`,
      );
    });
  }

  private async makeDirectory(dir: string, path: string, isThere: boolean): Promise<void> {
    const root = dir.slice(0, dir.length - path.length) || '/';
    try {
      if (!isThere) await mkdir(dir, { recursive: true });
      if (root === this.hierarchies.v2) await readyV2(root, dir);
      else if (this.isCpuset(root)) await inheritCpuset(root, dir);
    } catch (error) {
      if (error instanceof BerthError) throw error;
      throw new BerthError('internal', `make cgroup ${dir}: ${messageOf(error)}`, { cause: error });
    }
  }

  private isCpuset(root: string): boolean {
    return this.hierarchies.v1.some(h => h.mountpoint === root && h.controllers.includes('cpuset'));
  }
}

/** How far below a v2 cgroup a process is; empty when it is right in it, or gone. */
function below(path: string, pid: number): string {
  const own = /^0::(.*)$/m.exec(readIfThere(`/proc/${pid}/cgroup`))?.[1] ?? '';
  // This process may see the cgroup's path with more before it.
  const at = own.lastIndexOf(`${path}/`);
  return at < 0 ? '' : own.slice(at + path.length + 1);
}

/** With what its parents have passed on, and able to take a process. */
async function readyV2(root: string, dir: string): Promise<void> {
  await passControllersOn(root, dir);
  assertDomain(root, dir);
}

/** A v1 cpuset takes no process before it has CPUs and memory nodes: those of the next one above that has them. */
async function inheritCpuset(root: string, dir: string): Promise<void> {
  const writes = ['cpuset.cpus', 'cpuset.mems'].flatMap(file => {
    const missing: string[] = [];
    let value = '';
    for (let at = dir; at.length >= root.length && value === ''; at = dirname(at)) {
      value = readWord(join(at, file));
      if (value === '') missing.unshift(join(at, file));
    }
    return missing.map(path => ({ call: 'write', path, data: value }) as const);
  });
  for (const failure of await fileCalls(writes)) throw fileCallError(failure);
}
