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
        ...(this.hasDeviceLists ? [DELEGATED_DEVICES] : deviceProperties(devices)),
        ...this.limitProperties(parts.scope, { pids: { limit: -1n }, ...limits }),
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
    const limited = this.limitProperties(slice, limits);
    await this.systemd.start(slice, [text('Description', 'a pod of berth'), ...common(), ...limited]);
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
    const properties = this.limitProperties(unit, limits);
    const before = await this.systemd.properties(
      unit,
      properties.map(([name]) => name),
    );
    const undoFiles = await changeFiles();
    try {
      await this.systemd.setProperties(unit, properties);
    } catch (error) {
      await undoFiles().catch(() => undefined);
      throw error;
    }
    return async () => {
      await undoFiles();
      await this.systemd.setProperties(unit, before);
    };
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

  private limitProperties(unit: string, limits: Limits): Property[] {
    const versionOf = (controller: string) => homeOf(this.hierarchies, controller)?.version;
    return limitProperties(limits, { versionOf, isScope: unit.endsWith('.scope') });
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

/**
 * Delegation means all that v2 has, and v1's devices only since it is named (since systemd 252; before, all was meant). Without it
 * systemd takes the container's cgroup for a left-over there: it removes it at a reload when it finds it empty, and may
 * move the processes above, where they are held to nothing.
 */
const DELEGATED_DEVICES: Property = ['DelegateControllers', { signature: 'as', value: ['devices'] }];

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
