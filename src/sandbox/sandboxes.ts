import { join } from 'node:path';
import { BerthError } from '../base/errors';
import type { SandboxId } from '../base/ids';
import { KeyedLock } from '../base/keyed-lock';
import type { Logger } from '../base/log';
import type { Leftover } from '../base/rollback';
import type { Lap } from '../base/stopwatch';
import { SingleFlight } from '../base/single-flight';
import { assertMove, type Moves } from '../base/state-machine';
import type { CgroupDriverName, Cgroups } from '../cgroup/groups';
import { PodSandboxConfig } from '../cri';
import { Events } from '../events/events';
import { POD_FILES } from '../network/pod-files';
import type { PodAttachment, PodNetwork } from '../network/pod-network';
import type { IdMappings } from '../oci/spec';
import { tellForgotten, tellState } from './tell';

export type SandboxState = 'creating' | 'ready' | 'notready';

const MOVES: Moves<SandboxState> = {
  creating: ['ready', 'notready'],
  ready: ['notready'],
  /** Ready again: the pod of a person's container, after a reboot. */
  notready: ['notready', 'ready'],
};

/** Who made it: the kubelet meets only what came through the CRI, and nobody the container of a build's step. */
export type Owner = 'cri' | 'person' | 'build';

/** A sandbox as it is stored, written before the first side effect and once per transition. */
export interface SandboxRecord {
  version: 1;
  id: SandboxId;
  owner: Owner;
  state: SandboxState;
  /** The request's PodSandboxConfig, encoded; its resources are those that hold now. */
  config: Buffer;
  runtimeHandler: string;
  createdAtNs: bigint;
  hostname: string;
  /** Which namespaces are the pod's own; the others are the host's. */
  ownNetwork: boolean;
  /** A network of its own with the loopback device alone, whatever the node has for others. */
  isOffline?: boolean;
  ownIpc: boolean;
  /** The user namespace that owns the pod's other namespaces; absent: the host's. */
  userns?: IdMappings;
  /** Separates its files from those of other pods where SELinux is on. */
  selinuxLevel?: string;
  /** Of its /dev/shm; absent: 64 MiB. */
  shmBytes?: bigint;
  /** Lines of /etc/hosts that a person has asked for. */
  extraHosts?: readonly { name: string; address: string }[];
  /** The init of a shared PID namespace. */
  pause?: { pid: number; pidStartTime: bigint } | undefined;
  /** Who made its cgroups; absent: cgroupfs. */
  cgroupDriver?: CgroupDriverName;
  /** Cgroup under which the pod's containers lie. */
  cgroupParent: string;
  /** True when berth made `cgroupParent` and removes it. */
  ownsCgroupParent: boolean;
  /** From before CNI ADD until after DEL; absent where the pod has no network but its loopback, or the host's. */
  network?: PodAttachment | undefined;
  /** Where the time of RunPodSandbox went. */
  timings?: readonly Lap[];
  /** What an earlier undo could not do; the next stop or remove tries again. */
  leftovers?: Leftover[];
}

/** A record with its config decoded. */
export interface Sandbox {
  record: SandboxRecord;
  config: PodSandboxConfig;
  /** Ends what is being made in it, once it is stopped. */
  closing: AbortController;
}

/** What is stored, seen from here: a table of records by id. */
export interface RecordTable<Record> {
  list(): Record[];
  put(key: string, record: Record): Promise<void>;
  remove(key: string): Promise<void>;
}

/** A runtime handler as the configuration has it. */
export interface RuntimeHandlerName {
  name: string;
  /** Berth itself, and not another OCI runtime. */
  isOwn: boolean;
}

/** Where a sandbox's things are on the host. */
export interface SandboxPaths {
  dir: string;
  namespaces: string;
  user: string;
  network: string;
  ipc: string;
  uts: string;
  pid: string;
  shm: string;
  /** What its containers get unless their mounts bring another: container path to host path. */
  files: Readonly<Record<string, string>>;
}

/** All sandboxes of this daemon: the records' cache, and what the verbs beside this file need. */
export class Sandboxes {
  readonly locks = new KeyedLock();
  readonly runs = new SingleFlight<Sandbox>();
  private readonly byId = new Map<SandboxId, Sandbox>();

  constructor(
    private readonly table: RecordTable<SandboxRecord>,
    private readonly stateDir: string,
    readonly cgroups: Cgroups,
    readonly network: PodNetwork,
    readonly log: Logger,
    /** Processes and threads that a pod in a cgroup of berth's own may have; undefined for any number. */
    readonly podPidsLimit?: bigint,
    /** Runtime handlers besides the one with the empty name. */
    readonly handlers: readonly RuntimeHandlerName[] = [],
    /** Where what happens is told. */
    readonly events: Events = new Events(),
  ) {
    for (const record of table.list()) {
      const config = PodSandboxConfig.decode(record.config);
      this.byId.set(record.id, { record, config, closing: new AbortController() });
    }
    network.knows(() =>
      this.list().flatMap(({ record: { id, network: attachment } }) => (attachment ? [{ id, attachment }] : [])),
    );
  }

  list(): Sandbox[] {
    return [...this.byId.values()];
  }

  /** By id, or by a prefix that only one sandbox has; undefined when there is none. */
  find(idOrPrefix: string): Sandbox | undefined {
    const exact = this.byId.get(idOrPrefix as SandboxId);
    if (exact || idOrPrefix === '') return exact;
    const matches = this.list().filter(({ record }) => record.id.startsWith(idOrPrefix));
    if (matches.length > 1) {
      throw new BerthError(
        'invalid_argument',
        `${matches.length} pod sandboxes have ids that begin with ${idOrPrefix}`,
        {
          hint: 'give more digits',
        },
      );
    }
    return matches[0];
  }

  get(idOrPrefix: string): Sandbox {
    const sandbox = this.find(idOrPrefix);
    if (sandbox) return sandbox;
    throw new BerthError('not_found', `no pod sandbox has the id ${JSON.stringify(idOrPrefix)}`);
  }

  async add(record: SandboxRecord, config: PodSandboxConfig): Promise<Sandbox> {
    const sandbox = { record, config, closing: new AbortController() };
    this.byId.set(record.id, sandbox);
    try {
      await this.table.put(record.id, record);
    } catch (error) {
      this.byId.delete(record.id);
      throw error;
    }
    return sandbox;
  }

  /** Changes the record, on disk first; a new state must be a legal move. */
  async update(sandbox: Sandbox, change: Partial<SandboxRecord>): Promise<void> {
    if (change.state) assertMove(MOVES, `pod sandbox ${sandbox.record.id}`, sandbox.record.state, change.state);
    const record = { ...sandbox.record, ...change };
    await this.table.put(record.id, record);
    const before = sandbox.record.state;
    sandbox.record = record;
    if (change.config) sandbox.config = PodSandboxConfig.decode(change.config);
    tellState(this.events, sandbox, before);
  }

  /** The same for what others must see from this call on, also while it is written; what cannot be written is taken back. */
  async updateAtOnce(sandbox: Sandbox, change: Pick<SandboxRecord, 'network'>): Promise<void> {
    const before = sandbox.record;
    sandbox.record = { ...before, ...change };
    try {
      await this.table.put(before.id, sandbox.record);
    } catch (error) {
      sandbox.record = before;
      throw error;
    }
  }

  async forget(id: SandboxId): Promise<void> {
    await this.table.remove(id);
    const sandbox = this.byId.get(id);
    // While it is still there: what is told has its last state.
    if (sandbox) tellForgotten(this.events, sandbox);
    this.byId.delete(id);
  }

  get baseDir(): string {
    return join(this.stateDir, 'sandboxes');
  }

  paths(id: SandboxId): SandboxPaths {
    const dir = join(this.baseDir, id);
    const namespaces = join(dir, 'ns');
    return {
      dir,
      namespaces,
      user: join(namespaces, 'user'),
      network: join(namespaces, 'net'),
      ipc: join(namespaces, 'ipc'),
      uts: join(namespaces, 'uts'),
      pid: join(namespaces, 'pid'),
      shm: join(dir, 'shm'),
      files: Object.fromEntries(Object.entries(POD_FILES).map(([path, file]) => [path, join(dir, file)])),
    };
  }
}
