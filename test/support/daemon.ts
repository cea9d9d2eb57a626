import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readHierarchies } from '../../src/cgroup/hierarchies';
import { removeCgroup } from '../../src/cgroup/remove';
import { isInGuest, testCgroupParent } from './cgroup-parent';
import { FakeSystemd } from './fake-systemd';
import { guard } from './guard';
import { patience } from './patience';
import { berthdFile } from './programs';
import { removeRemains, type Remains } from './remains';

const READY_WITHIN_MS = 20_000 * patience;

/** So that traces have the sources' lines. */
const PROGRAM = [process.execPath, '--enable-source-maps', berthdFile];

export interface DaemonOptions {
  /** TOML text of its configuration file. */
  config?: string;
  /**
   * A network namespace of its own, with a loopback that is up: its pods' networks do not meet the machine's. Or that of
   * another daemon, as on one host.
   */
  ownNetwork?: boolean | TestDaemon;
  /**
   * It is shown cgroup v2 alone; or, on a hybrid host, v2 without controllers, since crun 1.8 refuses a host where both
   * have some; else what the machine has.
   */
  cgroups?: 'v2' | 'v1 and bare v2';
  /**
   * Its cgroups are made by systemd: the `host`'s, in the whole tree, for guests that are a test's own; or a `fake` one, in
   * the daemon's part of the tree.
   */
  systemd?: 'fake' | 'host';
}

const CONFIG_FILE = 'config.toml';

/** Where a daemon's cgroups are that are made by the host's systemd. */
const HOST_SLICES = ['/berth.slice', '/kubepods.slice'];

/** A hierarchy of cgroups as a daemon sees it. */
export interface ShownHierarchy {
  /** Its mount point's: `memory`, `cpu,cpuacct`; `unified` is v2's. */
  name: string;
  /** The directory that the daemon takes for its root. */
  root: string;
}

/**
 * A berthd of its own: fresh directories, a mount namespace whose `/` is shared as on a node, and a cgroup subtree that
 * looks like the whole tree to it. Whatever it leaves behind is found there, whoever else uses the machine.
 */
export class TestDaemon implements AsyncDisposable {
  readonly root: string;
  readonly state: string;
  readonly configFile: string;
  readonly socket: string;
  /** All that any of its lives has logged. */
  log = '';
  private child: ChildProcess | undefined;
  private lastEnd: Promise<string | number> | undefined;
  private destroyed: Promise<void> | undefined;
  private readonly release: () => void;

  private constructor(
    readonly dir: string,
    private readonly world: World,
    /** Who makes its cgroups, when that was asked for. */
    readonly systemd: FakeSystemd | undefined,
  ) {
    this.root = join(dir, 'root');
    this.state = join(dir, 'state');
    this.configFile = join(dir, CONFIG_FILE);
    this.socket = join(this.state, 'cri.sock');
    const afterKill = [process.execPath, join(__dirname, 'after-kill.js'), 'daemon'];
    this.release = guard(() => this.destroy(), afterKill, JSON.stringify(world.remains), world.namespaceFd);
  }

  /** Starts one and waits until it is ready. */
  static async start(options: DaemonOptions = {}): Promise<TestDaemon> {
    const daemon = await TestDaemon.prepare(options);
    try {
      await daemon.run();
      return daemon;
    } catch (error) {
      await daemon.destroy();
      throw error;
    }
  }

  /** Everything but the start. */
  static async prepare(options: DaemonOptions = {}): Promise<TestDaemon> {
    const dir = mkdtempSync(join(tmpdir(), 'berth-cri-'));
    const world = await World.make(dir, options);
    try {
      writeFileSync(join(dir, CONFIG_FILE), configFile(options));
      const systemd =
        options.systemd === 'fake' ? await FakeSystemd.start(join(dir, 'bus'), world.cgroupRoots) : undefined;
      return new TestDaemon(dir, world, systemd);
    } catch (error) {
      await world.destroy();
      throw error;
    }
  }

  get berthSocket(): string {
    return join(this.state, 'berth.sock');
  }

  get pid(): number {
    if (this.child?.pid === undefined) throw new Error('the daemon does not run');
    return this.child.pid;
  }

  get isRunning(): boolean {
    return this.child !== undefined;
  }

  /** The process that holds the mount namespace, and shows its mounts when no daemon runs. */
  get holderPid(): number {
    return this.world.holderPid;
  }

  get hierarchies(): readonly ShownHierarchy[] {
    return this.world.hierarchies;
  }

  /** Below which all cgroups of this daemon's are, in each hierarchy. */
  get cgroupRoots(): readonly string[] {
    return this.world.cgroupRoots;
  }

  /** Starts it on the directories as they are; resolves when it serves, rejects with its log when it ends instead. */
  async run(more: string[] = [], env: Record<string, string> = {}): Promise<void> {
    const start = this.log.length;
    const { ended } = this.spawn(more, env);
    const ready = new Promise<void>(resolve => {
      this.child?.stderr?.on('data', () => {
        if (this.log.slice(start).includes('berthd is ready')) resolve();
      });
    });
    const late = sleep(READY_WITHIN_MS, undefined, { ref: false }).then(() => {
      throw new Error(`the daemon was not ready within ${READY_WITHIN_MS} ms:\n${this.log.slice(start)}`);
    });
    const died = ended.then(code => {
      throw new Error(`the daemon ended with status ${code}:\n${this.log.slice(start)}`);
    });
    died.catch(() => undefined);
    late.catch(() => undefined);
    await Promise.race([ready, died, late]);
  }

  /** Starts it for a run that is expected to fail; its status and what it said. */
  async runToEnd(more: string[] = [], env: Record<string, string> = {}): Promise<{ code: number; said: string }> {
    const start = this.log.length;
    const code = await this.spawn(more, env).ended;
    return { code, said: this.log.slice(start) };
  }

  /** Resolves with the signal or exit status of the last run, once it has ended. */
  async ended(): Promise<string | number> {
    if (!this.lastEnd) throw new Error('the daemon has never run');
    return this.lastEnd;
  }

  /** SIGTERM; containers run on. */
  async stop(): Promise<void> {
    await this.end('SIGTERM');
  }

  /** SIGKILL: no chance to do anything. */
  async kill(): Promise<void> {
    await this.end('SIGKILL');
  }

  async restart(): Promise<void> {
    if (this.child) await this.kill();
    await this.run();
  }

  /** Ends it and all it started, and removes what they left, whatever state they are in. */
  async destroy(): Promise<void> {
    await (this.destroyed ??= this.destroyOnce());
  }

  private async destroyOnce(): Promise<void> {
    await this.kill();
    await this.world.destroy();
    await this.systemd?.stop();
    this.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }

  private spawn(more: string[], env: Record<string, string> = {}): { ended: Promise<number> } {
    if (this.child) throw new Error('the daemon runs already');
    const flags = ['--root', this.root, '--state', this.state, '--config', this.configFile, ...more];
    const namespaces = ['mnt', 'net'].map((ns, i) => `--${['mount', 'net'][i]}=/proc/${this.holderPid}/ns/${ns}`);
    const child = spawn('nsenter', [...namespaces, ...PROGRAM, ...flags], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        ...(this.systemd ? { DBUS_SYSTEM_BUS_ADDRESS: this.systemd.address } : {}),
        ...env,
      },
    });
    this.child = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.log += text));
    const closed = once(child, 'close').then(([code, signal]) => {
      if (this.child === child) this.child = undefined;
      return { code: code as number | null, signal: signal as string | null };
    });
    this.lastEnd = closed.then(({ code, signal }) => signal ?? code ?? 128);
    return { ended: closed.then(({ code }) => code ?? 128) };
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    if (!child) return;
    const ended = once(child, 'close');
    child.kill(signal);
    await ended;
  }
}

/**
 * Where systemd is not the init, it has to be asked for. The machine's own network is left alone, unless a test with a
 * network of its own says what it wants there.
 */
function configFile({ systemd, config = '' }: DaemonOptions): string {
  const driver = systemd === 'fake' ? '[runtime]\ncgroup_driver = "systemd"\n' : '';
  const network = config.includes('[network]') ? '' : '\n[network]\nembedded = "none"\n';
  return `[log]\nlevel = "debug"\n${driver}${config}${network}`;
}

/** A mount namespace with a shared `/`, and in it a part of each cgroup hierarchy in place of the whole. */
class World {
  /** Held, so that no other namespace gets its number. */
  readonly namespaceFd: number;

  private constructor(
    private readonly holder: ChildProcess,
    readonly holderPid: number,
    readonly remains: Remains,
    readonly hierarchies: readonly ShownHierarchy[],
  ) {
    this.namespaceFd = openSync(`/proc/${holderPid}/ns/mnt`, 'r');
  }

  get cgroupRoots(): readonly string[] {
    return this.remains.cgroupRoots;
  }

  /** @param dir the daemon's directory, which goes with it */
  static async make(dir: string, { cgroups, ownNetwork = false, systemd }: DaemonOptions): Promise<World> {
    const name = basename(dir);
    const isOwn = systemd !== 'host';
    if (!isOwn && !isInGuest) throw new Error('not in the tree of a node: run make test-vm');
    const mounts = cgroupMounts();
    const shown = mounts.filter(({ type }) => cgroups !== 'v2' || type === 'cgroup2');
    const hidden = mounts.filter(mount => !shown.includes(mount)).map(({ mountpoint }) => `umount ${mountpoint}`);
    const mountpoints = shown.map(({ mountpoint }) => mountpoint);
    const paths = isOwn ? [join('/', testCgroupParent, name)] : HOST_SLICES;
    const roots = mountpoints.flatMap(mountpoint => paths.map(path => join(mountpoint, path)));
    const binds = isOwn ? mountpoints.map((mountpoint, i) => `mount --bind ${roots[i]} ${mountpoint}`) : [];
    const isBare = cgroups === 'v1 and bare v2' && shown.some(({ type }) => type === 'cgroup');
    const bare = shown.filter(({ type }) => isBare && type === 'cgroup2').map(({ mountpoint }) => mountpoint);
    const bares = bare.map(at => `mount --bind /dev/null ${join(at, 'cgroup.controllers')}`);
    const loopback = ownNetwork === true ? ['ip link set lo up'] : [];
    const shared = typeof ownNetwork === 'boolean' ? [] : ['nsenter', `--net=/proc/${ownNetwork.holderPid}/ns/net`];
    // Private so far, as unshare(1) makes it: nothing of this is seen outside.
    // Its cgroups are a part of the tree, where systemd makes none: `auto` is cgroupfs there.
    const noSystemd = existsSync('/run/systemd') && isOwn ? ['mount -t tmpfs none /run/systemd'] : [];
    const setUp = [...hidden, 'mount --make-rshared /', ...binds, ...bares, ...noSystemd, ...loopback];
    const script = ['set -e', ...setUp, 'echo ready', 'exec cat'].join('\n');
    const hierarchies = shown.map(({ type, mountpoint }, i) => ({
      name: type === 'cgroup2' ? 'unified' : basename(mountpoint),
      root: isOwn ? (roots[i] ?? '') : mountpoint,
    }));
    try {
      if (isOwn) for (const root of roots) makeCgroup(root);
      const holder = await hold([...shared, 'unshare', ownNetwork === true ? '-mn' : '-m', 'sh', '-c', script]);
      const remains = { dir, isOwn, cgroups: paths, cgroupRoots: roots };
      return new World(holder, holder.pid ?? 0, remains, hierarchies);
    } catch (error) {
      if (isOwn) for (const path of paths) await removeCgroup(readHierarchies(), path);
      rmSync(dir, { recursive: true });
      throw error;
    }
  }

  async destroy(): Promise<void> {
    await removeRemains(this.remains, readlinkSync(`/proc/self/fd/${this.namespaceFd}`), this.holderPid);
    const closed = once(this.holder, 'close');
    if (this.holder.exitCode === null && this.holder.signalCode === null && this.holder.kill('SIGKILL')) await closed;
    closeSync(this.namespaceFd);
  }
}

/** Starts what says that it is ready and ends with its standard input, so also when the tests are killed. */
async function hold([command = '', ...args]: string[]): Promise<ChildProcess> {
  const holder = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const closed = once(holder, 'close').then(() => {
    throw new Error('no mount namespace of its own for the daemon');
  });
  closed.catch(() => undefined);
  await Promise.race([once(holder.stdout, 'data'), closed]);
  return holder;
}

function cgroupMounts(): { type: string; mountpoint: string }[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter(line => / - cgroup2? /.test(line))
    .map(line => ({ type: / - (cgroup2?) /.exec(line)?.[1] ?? '', mountpoint: line.split(' ')[4] ?? '' }));
}

/** As a root has it: v2's controllers are passed on to it, and a v1 cpuset has CPUs and memory nodes, without which it takes no process. */
function makeCgroup(dir: string): void {
  passControllersOn(join(dir, '..'));
  mkdirSync(dir);
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    // v2's root has no such files, and below it empty ones are all that there is.
    if (![dir, join(dir, '..')].every(at => existsSync(join(at, file)))) continue;
    if (readFileSync(join(dir, file), 'utf8').trim() !== '') continue;
    writeFileSync(join(dir, file), readFileSync(join(dir, '..', file)));
  }
}

function passControllersOn(dir: string): void {
  const controllers = join(dir, 'cgroup.controllers');
  if (!existsSync(controllers)) return;
  for (const name of readFileSync(controllers, 'utf8').trim().split(' ')) {
    if (name !== '') writeFileSync(join(dir, 'cgroup.subtree_control'), `+${name}`);
  }
}
