import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError, messageOf } from '../../base/errors';
import type { DeviceRule } from '../devices';
import { write } from '../files';
import { homeOf, type Hierarchies } from '../hierarchies';
import type { Limits } from '../limits';
import { startHolder } from './holder';
import { scopeOf, sliceOf, type ScopeParts } from './names';
import { deviceProperties, limitProperties, type Property } from './properties';
import { isOutOfReach, type Systemd } from './systemd';

/** The holder, which a container's limit of processes does not count. */
const BESIDE = 1n;

/** What is in a unit has been killed by then: there is little left to wait for. */
const STOP_WITHIN_MS = 5_000;

/**
 * The units of systemd's that cgroups of berth's are in. The limits are given to systemd as well as written to the files,
 * so that it writes the same when it is reloaded.
 */
export class Units {
  constructor(
    private readonly systemd: Systemd,
    private readonly hierarchies: Hierarchies,
    private readonly stopWithinMs = STOP_WITHIN_MS,
  ) {}

  /**
   * Makes the scope of a container's cgroup, delegated: what is below it is berth's. Without a limit of processes it has none,
   * where systemd's default would be a share of the machine's. The holder is what systemd makes it
   * around, and is then moved aside, since v2 has no processes where controllers are passed on.
   */
  async startScope(parts: ScopeParts, limits: Limits, devices: readonly DeviceRule[]): Promise<void> {
    const holder = await startHolder(parts.scope);
    try {
      await this.systemd.start(parts.scope, [
        ...scopeProperties(parts, holder.pid),
        ...limitProperties({ pids: { limit: -1n }, ...limits }, BESIDE),
        ...(this.hasDeviceLists ? [] : deviceProperties(devices)),
      ]);
      await this.moveAside(holder.pid, parts);
      holder.keep();
    } catch (error) {
      holder.release();
      throw error;
    }
  }

  /** Makes a pod's slice. */
  async startSlice(slice: string, limits: Limits): Promise<void> {
    await this.systemd.start(slice, [text('Description', 'a pod of berth'), ...common(), ...limitProperties(limits)]);
  }

  /**
   * Changes limits of a cgroup and of its unit, both or neither; resolves with what puts the former ones back.
   *
   * @param changeFiles changes those of the cgroup, and resolves with its own way back
   */
  async change(
    path: string,
    limits: Limits,
    changeFiles: () => Promise<() => Promise<void>>,
  ): Promise<() => Promise<void>> {
    const unit = unitOf(path);
    if (unit === undefined) return changeFiles();
    const properties = limitProperties(limits, scopeOf(path) ? BESIDE : 0n);
    const before = await this.systemd.properties(
      unit,
      properties.map(([name]) => name),
    );
    const isLoosened = await this.loosen(unit, limits);
    const undone: (() => Promise<void>)[] = isLoosened ? [() => this.systemd.setProperties(unit, before)] : [];
    try {
      undone.unshift(await changeFiles());
      await this.systemd.setProperties(unit, properties);
    } catch (error) {
      for (const undo of undone) await undo().catch(() => undefined);
      throw error;
    }
    const [undoFiles = () => Promise.resolve()] = undone;
    return async () => {
      await this.loosen(unit, limits);
      await undoFiles();
      await this.systemd.setProperties(unit, before);
    };
  }

  /**
   * Lets a v1 quota below be changed to any value, where it may never be a larger share of its period than the one above. The
   * cgroup's own holds meanwhile.
   */
  private async loosen(unit: string, { cpu = {} }: Limits): Promise<boolean> {
    const isBound = homeOf(this.hierarchies, 'cpu')?.version === 1 && (cpu.quota ?? cpu.period) !== undefined;
    if (!isBound || !unit.endsWith('.scope')) return false;
    await this.systemd.setProperties(unit, limitProperties({ cpu: { quota: -1n } }));
    return true;
  }

  /** Ends the unit of a cgroup whose processes have been killed. Without systemd the cgroup goes all the same, and the unit with it. */
  async stop(path: string): Promise<void> {
    const unit = unitOf(path);
    if (unit === undefined) return;
    try {
      await this.systemd.stop(unit, this.stopWithinMs);
    } catch (error) {
      if (!isOutOfReach(error)) throw error;
    }
  }

  /** v1 has no programs but a list, of which the container's own cgroup may have a part only; systemd keeps out of it. */
  private get hasDeviceLists(): boolean {
    return homeOf(this.hierarchies, 'devices') !== undefined;
  }

  private async moveAside(pid: number, { scope, hold }: ScopeParts): Promise<void> {
    const { v2 } = this.hierarchies;
    if (v2 === undefined) return;
    const dir = join(v2, hold);
    try {
      await mkdir(dir, { recursive: true });
      await write(join(dir, 'cgroup.procs'), String(pid));
    } catch (error) {
      throw new BerthError('internal', `make ${dir} in ${scope}: ${messageOf(error)}`, { cause: error });
    }
  }
}

function unitOf(path: string): string | undefined {
  return scopeOf(path)?.scope ?? sliceOf(path);
}

function scopeProperties({ scope, slice }: ScopeParts, pid: number): Property[] {
  return [
    text('Description', `container ${scope.slice('berth-'.length, -'.scope'.length)} of berth`),
    text('Slice', slice),
    flag('Delegate', true),
    ['PIDs', { signature: 'au', value: [pid] }],
    ...common(),
  ];
}

/** It is shut down last, after what may still need it; all is counted; and one that has failed is not kept. */
function common(): Property[] {
  return [
    flag('DefaultDependencies', false),
    ...['CPUAccounting', 'MemoryAccounting', 'TasksAccounting', 'IOAccounting'].map(name => flag(name, true)),
    text('CollectMode', 'inactive-or-failed'),
  ];
}

function text(name: string, value: string): Property {
  return [name, { signature: 's', value }];
}

function flag(name: string, value: boolean): Property {
  return [name, { signature: 'b', value }];
}
