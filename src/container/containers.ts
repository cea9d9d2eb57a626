import { join } from 'node:path';
import { BerthError } from '../base/errors';
import type { ContainerId, SandboxId } from '../base/ids';
import { KeyedLock } from '../base/keyed-lock';
import type { Logger } from '../base/log';
import type { Leftover } from '../base/rollback';
import { SingleFlight } from '../base/single-flight';
import { assertMove, type Moves } from '../base/state-machine';
import type { Cgroups } from '../cgroup/groups';
import { ContainerConfig } from '../cri';
import type { Events } from '../events/events';
import { RunOptions } from '../cri/generated/berth/v1/run';
import type { Images } from '../image/images';
import type { HooksSpec } from '../oci/spec';
import type { Monitor } from '../process/monitor';
import type { Owner, RecordTable, Sandboxes } from '../sandbox/sandboxes';
import type { Health } from './health';
import { Holds } from './holds';
import { LogDrops } from './log-drops';
import type { ImageVolume } from './image-volumes';
import type { Rlimits } from './rlimits';
import { Runtimes } from './runtimes';
import type { ContainerSeccomp } from './seccomp';
import { tellForgotten, tellState } from './tell';
import type { ContainerTimings } from './timings';
import { Volumes } from './volumes';

export type ContainerState = 'creating' | 'created' | 'running' | 'exited';

const MOVES: Moves<ContainerState> = {
  creating: ['created', 'exited'],
  created: ['running', 'exited'],
  running: ['exited'],
  /** A person's container that is made ready again; the kubelet makes a new one. */
  exited: ['created'],
};

/** A container as it is stored, written before the first side effect and once per transition. */
export interface ContainerRecord {
  version: 1;
  id: ContainerId;
  sandboxId: SandboxId;
  owner: Owner;
  state: ContainerState;
  /** The request's ContainerConfig, encoded; its resources are those that hold now. */
  config: Buffer;
  /** The name that a person uses; the kubelet's containers have none. */
  name?: string;
  /** What a person asked for beside the config, encoded RunOptions. */
  options?: Buffer;
  /** A person has stopped it, and no restart policy starts it again. */
  isStopped?: boolean;
  /** How often a restart policy has started it since a person did. */
  restarts?: number;
  /** Removed once it has exited. */
  autoRemove?: boolean;
  imageId: string;
  /** `repository@sha256:…` when known, else the image id. */
  imageRef: string;
  /** Layers that its root and its image volumes stand on; they stay as long as this record does. */
  layerKeys: string[];
  imageVolumes?: ImageVolume[];
  cgroupPath: string;
  /** Absolute path of its log; empty for none. */
  logPath: string;
  /** By number. */
  stopSignal: number;
  createdAtNs: bigint;
  startedAtNs: bigint;
  finishedAtNs: bigint;
  exitCode: number;
  /** That ended it; absent when it ended by itself. */
  signal?: number | undefined;
  reason: string;
  message: string;
  process?: { pid: number; pidStartTime: bigint };
  user?: { uid: number; gid: number; groups: number[]; home?: string };
  /** The OCI runtime spec as JSON. */
  spec?: string;
  /** Absent: unconfined. */
  seccomp?: ContainerSeccomp | undefined;
  timings?: ContainerTimings | undefined;
  /** Those that run once it is started, and once it has ended: absent when there are none, or they have run. */
  hooks?: Pick<HooksSpec, 'poststart' | 'poststop'> | undefined;
  leftovers?: Leftover[];
}

/** A record with its config decoded and, while its monitor lives, the line to it. */
export interface Container {
  record: ContainerRecord;
  config: ContainerConfig;
  options: RunOptions;
  monitor: Monitor | undefined;
  /** Of one that runs and says how its health is checked. */
  health?: Health;
  /** A restart policy is about to start it again. */
  isRestarting?: boolean;
  /** A restart policy's start that is under way: it ends soon, and never rejects. A stop waits for it. */
  returning?: Promise<void>;
  /** The work after its last exit: its cgroup goes. */
  ending?: Promise<void>;
  /** Its poststart hooks run; never rejects. */
  starting?: Promise<void>;
  /** Its poststop hooks run; never rejects. */
  afterwards?: Promise<void>;
  /** What the OOM killer had ended when somebody's stop killed the container. */
  oomKillsBeforeKill?: bigint;
}

/** Where a container's things are on the host. */
export interface ContainerPaths {
  /** Survives a reboot: the writable layer. */
  dir: string;
  upper: string;
  work: string;
  /** Lost at a reboot: the monitor's socket and records. */
  stateDir: string;
  /** Mounted on by init in its own mount namespace. */
  stage: string;
}

/** What containers ask of the images. */
export type ImageSource = Pick<Images, 'node' | 'find' | 'lowerDirs' | 'readOnlyDirs' | 'collect' | 'ready'>;

/** All containers of this daemon: the records' cache, and what the verbs beside this file need. */
export class Containers {
  readonly locks = new KeyedLock();
  /** Of what removed containers have written: one after the other, and nobody waits. */
  readonly deletions = new KeyedLock();
  readonly creates = new SingleFlight<Container>();
  readonly volumes: Volumes;
  /** Told of each exit, once what is left of the run is gone. */
  onExited: (container: Container) => void = () => undefined;
  /** Told of each start. */
  onStarted: (container: Container) => void = () => undefined;
  private readonly writes = new KeyedLock();
  /** Who waits for a container or reads its log; by id. */
  readonly holds = new Holds();
  /** Output that no log has. */
  readonly logDrops: LogDrops;
  private readonly byId = new Map<ContainerId, Container>();
  private readonly exitWaiters = new Map<ContainerId, Set<() => void>>();

  constructor(
    private readonly table: RecordTable<ContainerRecord>,
    private readonly rootDir: string,
    private readonly stateDir: string,
    readonly sandboxes: Sandboxes,
    readonly images: ImageSource,
    readonly cgroups: Cgroups,
    readonly log: Logger,
    /** Where CDI specs are; later ones win. */
    readonly cdiDirs: readonly string[],
    readonly rlimits: Rlimits,
    /** Processes and threads that a container may have unless its request says otherwise; undefined for any number. */
    readonly pidsLimit?: bigint,
    readonly runtimes: Runtimes = new Runtimes(),
    /** Of a record in a log; 0: the helper's default. */
    readonly logLineBytes = 0,
  ) {
    this.volumes = new Volumes(join(rootDir, 'volumes'));
    this.logDrops = new LogDrops(log);
    for (const record of table.list()) {
      this.byId.set(record.id, containerOf(record, ContainerConfig.decode(record.config)));
    }
  }

  list(): Container[] {
    return [...this.byId.values()];
  }

  ofSandbox(id: SandboxId): Container[] {
    return this.list().filter(({ record }) => record.sandboxId === id);
  }

  /** Keys of all layers that some container stands on. */
  *layersInUse(): Generator<string> {
    for (const { record } of this.byId.values()) yield* record.layerKeys;
  }

  /** By id, or by a prefix that only one container has; undefined when there is none. */
  find(idOrPrefix: string): Container | undefined {
    const exact = this.byId.get(idOrPrefix as ContainerId);
    if (exact || idOrPrefix === '') return exact;
    const matches = this.list().filter(({ record }) => record.id.startsWith(idOrPrefix));
    if (matches.length > 1) {
      const names = matches.map(({ record }) => record.name ?? record.id.slice(0, 12)).join(', ');
      throw new BerthError('invalid_argument', `several containers have ids that begin with ${idOrPrefix}: ${names}`, {
        hint: 'give more digits',
      });
    }
    return matches[0];
  }

  get(idOrPrefix: string): Container {
    const container = this.find(idOrPrefix);
    if (container) return container;
    throw new BerthError('not_found', `no container has the id ${JSON.stringify(idOrPrefix)}`);
  }

  async add(record: ContainerRecord, config: ContainerConfig): Promise<Container> {
    const container = containerOf(record, config);
    this.byId.set(record.id, container);
    try {
      await this.table.put(record.id, record);
    } catch (error) {
      this.byId.delete(record.id);
      throw error;
    }
    return container;
  }

  /**
   * Changes the record, on disk first; a new state must be a legal move. Changes
   * of one container happen one after the other, and none after it was forgotten.
   */
  async update(container: Container, change: Partial<ContainerRecord>): Promise<void> {
    await this.updateWhen(() => true, container, change);
  }

  /** Changes the record if it still is in `state` when its turn comes; tells whether it was. */
  async updateFrom(state: ContainerState, container: Container, change: Partial<ContainerRecord>): Promise<boolean> {
    return this.updateWhen(now => now === state, container, change);
  }

  /** Changes the record unless it is in `state` when its turn comes; tells whether it did. */
  async updateUnless(state: ContainerState, container: Container, change: Partial<ContainerRecord>): Promise<boolean> {
    return this.updateWhen(now => now !== state, container, change);
  }

  async forget(id: ContainerId): Promise<void> {
    await this.writes.run(id, async () => {
      await this.table.remove(id);
      const container = this.byId.get(id);
      this.byId.delete(id);
      this.logDrops.forget(id);
      this.announceExit(id);
      if (container) tellForgotten(this, container);
    });
  }

  /**
   * Resolves with true once the container's record says exited, or there is no
   * record any more; with false when `signal` aborts before.
   */
  async exitOf(container: Container, signal?: AbortSignal): Promise<boolean> {
    const { id } = container.record;
    if (container.record.state === 'exited' || this.byId.get(id) !== container) return true;
    if (signal?.aborted) return false;
    return new Promise<boolean>(resolve => {
      const waiters = this.exitWaiters.get(id) ?? new Set();
      this.exitWaiters.set(id, waiters);
      const onAbort = () => {
        waiters.delete(onExit);
        resolve(false);
      };
      const onExit = () => {
        signal?.removeEventListener('abort', onAbort);
        resolve(true);
      };
      waiters.add(onExit);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Where what happens is told. */
  get events(): Events {
    return this.sandboxes.events;
  }

  /** The runtime handler of its pod. */
  handlerOf({ record }: Container): string {
    return this.sandboxes.find(record.sandboxId)?.record.runtimeHandler ?? '';
  }

  get baseDirs(): { persistent: string; state: string } {
    return { persistent: join(this.rootDir, 'containers'), state: join(this.stateDir, 'containers') };
  }

  paths(id: ContainerId): ContainerPaths {
    const dir = join(this.baseDirs.persistent, id);
    const stateDir = join(this.baseDirs.state, id);
    return { dir, upper: join(dir, 'upper'), work: join(dir, 'work'), stateDir, stage: join(stateDir, 'rootfs') };
  }

  private updateWhen(
    holds: (now: ContainerState) => boolean,
    container: Container,
    change: Partial<ContainerRecord>,
  ): Promise<boolean> {
    return this.writes.run(container.record.id, async () => {
      if (!holds(container.record.state) || this.byId.get(container.record.id) !== container) return false;
      await this.write(container, change);
      return true;
    });
  }

  private async write(container: Container, change: Partial<ContainerRecord>): Promise<void> {
    if (change.state) assertMove(MOVES, `container ${container.record.id}`, container.record.state, change.state);
    const record = { ...container.record, ...change };
    await this.table.put(record.id, record);
    const before = container.record.state;
    container.record = record;
    if (change.config) container.config = ContainerConfig.decode(change.config);
    if (change.state === 'exited') this.announceExit(record.id);
    if (change.state) tellState(this, container, before);
  }

  private announceExit(id: ContainerId): void {
    const waiters = this.exitWaiters.get(id) ?? new Set();
    this.exitWaiters.delete(id);
    for (const waiter of waiters) waiter();
  }
}

function containerOf(record: ContainerRecord, config: ContainerConfig): Container {
  const options = record.options ? RunOptions.decode(record.options) : RunOptions.fromPartial({});
  return { record, config, options, monitor: undefined };
}
