import { closeSync, openSync, readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { BerthError, isAbsent } from '../base/errors';
import { ControlSocket } from '../native/control';
import { startHelper } from '../native/helper';
import { decodePlan, encodePlan } from '../native/plan';
import type { HelperMessage, LaunchPlan } from '../native/plan-ops';
import { deferred, type Deferred } from './deferred';
import { signalProcess, startTimeOf } from './identity';
import { launchError } from './launch-failure';
import { reapWhenEnded } from './reap';

/** Who the container's process is, as the kernel and the image's files say. */
export interface Created {
  pid: number;
  /** Clock ticks since boot (field 22 of /proc/PID/stat): with the pid, a name that is never reused. */
  pidStartTime: bigint;
  uid: number;
  gid: number;
  groups: number[];
}

/** What is known before an OCI runtime makes the container: who its process shall be. */
export interface Prepared {
  uid: number;
  gid: number;
  groups: number[];
  /** Of the image's passwd entry; empty when there is none. */
  home: string;
}

export interface Exit {
  /** 128 + the signal for a killed process. */
  exitCode: number;
  /** 0 when it ended by itself. */
  signal: number;
  finishedAtNs: bigint;
  /** Output that could not be written to the log. */
  droppedBytes: bigint;
}

/** Output that could not be written to the log, in all. */
export interface DroppedOutput {
  bytes: bigint;
  /** The name of an errno. */
  why: string;
}

/** Commands that have ended after the daemon that started them. */
export interface Orphans {
  commands: number;
  /** Of their output, without those that the daemon had not read when it ended. */
  lostBytes: bigint;
}

/** In a monitor's state directory: its plan as bytes. */
const PLAN_FILE = 'plan';

const SIGKILL = 9;

const ABANDON_WITHIN_MS = 2000;

const REOPEN_WITHIN_MS = 10_000;

/** Where the time of a launch went: points of the clock that `process.hrtime` has, and nanoseconds a step, four bytes each. */
export interface LaunchTimes {
  /** The monitor's program began. */
  beganNs: bigint;
  /** Of the plan's outer section. */
  outer: Buffer;
  /** Init was about to be cloned. */
  clonedNs: bigint;
  /** Init began with the plan's inner section. */
  initNs: bigint;
  /** Of the inner section, up to where init waits for the start. */
  inner: Buffer;
  /** The monitor heard that init waits. */
  readyNs: bigint;
}

function launchTimes({ beganNs, outer, clonedNs, initNs, inner, readyNs }: LaunchTimes): LaunchTimes {
  return { beganNs, outer, clonedNs, initNs, inner, readyNs };
}

/** What a monitor left behind in its state directory when nobody listened. */
export type MonitorRecord =
  { kind: 'exited'; startedAtNs: bigint; exit: Exit } | { kind: 'failed'; error: BerthError } | { kind: 'none' };

/**
 * The daemon's view of one container's monitor. `created`, `running` and
 * `exited` settle once each; a monitor that dies without an exit record rejects
 * what has not settled.
 */
export class Monitor {
  /** Only of a plan with OCI_RUNTIME; `proceed` follows. */
  readonly prepared: Promise<Prepared>;
  /** The container's process on the host, once it waits for hooks that the daemon runs; `proceed` follows. */
  readonly hooksAwaited: Promise<number>;
  readonly created: Promise<Created>;
  readonly exited: Promise<Exit>;
  private readonly settlePrepared = deferred<Prepared>();
  private readonly settleHooks = deferred<number>();
  private readonly settleCreated = deferred<Created>();
  private readonly settleRunning = deferred<bigint>();
  private readonly settleExited = deferred<Exit>();
  private readonly running: Promise<bigint>;
  /** How long the launch's steps took; known once it is created, to the daemon that launched it. */
  times: LaunchTimes | undefined;
  /** When the command began to run, once it has. */
  startedAtNs: bigint | undefined;
  private hasExited = false;
  private reopening: Deferred<void>[] = [];
  private dropped: DroppedOutput | undefined;
  private orphans: Orphans[] = [];
  private onOrphans: ((orphans: Orphans) => void) | undefined;
  private onDropped: (dropped: DroppedOutput) => void = () => undefined;
  /** The monitor's own process. */
  private process: { pid: number; pidStartTime: bigint } | undefined;
  private socket: ControlSocket | undefined;

  private constructor(private readonly stateDir: string) {
    this.prepared = this.settlePrepared.promise;
    this.hooksAwaited = this.settleHooks.promise;
    this.created = this.settleCreated.promise;
    this.running = this.settleRunning.promise;
    this.exited = this.settleExited.promise;
  }

  /** Starts a monitor that executes `plan`; its socket and records live in `stateDir`, which must exist. */
  static async launch(plan: LaunchPlan, stateDir: string, name: string): Promise<Monitor> {
    const monitor = new Monitor(stateDir);
    const bytes = encodePlan(plan);
    const dirFd = openSync(stateDir, 'r');
    try {
      const [helper] = await Promise.all([
        startHelper({ role: 'monitor', name, plan: bytes, extra: dirFd }),
        // For whoever wants to know what was done; nobody needs it to go on.
        writeFile(join(stateDir, PLAN_FILE), bytes, { mode: 0o600 }).catch(() => undefined),
      ]);
      monitor.listen(socket => ControlSocket.fromFd(helper.controlFd, socket.onMessage, socket.onEnd));
      reapWhenEnded(helper.pidfd);
      const pidStartTime = startTimeOf(helper.pid);
      if (pidStartTime !== undefined) monitor.process = { pid: helper.pid, pidStartTime };
    } finally {
      closeSync(dirFd);
    }
    return monitor;
  }

  /** Meets the monitor of a container that an earlier daemon started; undefined when there is none any more. */
  static async attach(stateDir: string): Promise<Monitor | undefined> {
    const dirFd = openSync(stateDir, 'r');
    try {
      const socket = connect({ path: `/proc/self/fd/${dirFd}/sock` });
      await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
      const monitor = new Monitor(stateDir);
      monitor.listen(on => new ControlSocket(socket, on.onMessage, on.onEnd));
      monitor.process = await processOf(stateDir);
      return monitor;
    } catch (error) {
      if (error instanceof Error && 'code' in error && ['ENOENT', 'ECONNREFUSED'].includes(String(error.code)))
        return undefined;
      throw error;
    } finally {
      closeSync(dirFd);
    }
  }

  /** The bundle is there: the OCI runtime may make the container of it. Or the daemon's hooks have run. */
  proceed(): void {
    this.need().send({ type: 'PROCEED' });
  }

  /** Lets the container's process go on to execve. Resolves with the time it did; rejects with why it could not. */
  async start(): Promise<bigint> {
    this.need().send({ type: 'START' });
    return this.running;
  }

  /** The start of a container that was running when the daemon came; never settles for one that is only created. */
  get started(): Promise<bigint> {
    return this.running;
  }

  /** Sends a signal to the container's first process; nothing happens once it has ended. */
  kill(signal: number): void {
    this.socket?.send({ type: 'KILL', signal });
  }

  /** Of the container's terminal, if it has one. */
  resize({ rows, columns }: { rows: number; columns: number }): void {
    this.socket?.send({ type: 'RESIZE', rows: rows & 0xffff, columns: columns & 0xffff });
  }

  /** Opens the log path anew; rejects, and goes on with the old file, when that fails. */
  async reopenLog(): Promise<void> {
    const done = deferred<void>();
    this.reopening.push(done);
    this.need().send({ type: 'REOPEN_LOG' });
    const timer = setTimeout(() => {
      done.reject(
        new BerthError(
          'deadline_exceeded',
          `open the container's log again: its monitor did not answer within ${REOPEN_WITHIN_MS / 1000} s`,
        ),
      );
    }, REOPEN_WITHIN_MS);
    return done.promise.finally(() => clearTimeout(timer));
  }

  /** Calls `listener` when the log has lost output, now and at most once a second. */
  watchDropped(listener: (dropped: DroppedOutput) => void): void {
    this.onDropped = listener;
    if (this.dropped) listener(this.dropped);
  }

  /** Calls `listener` when commands of an earlier daemon's have ended, each once. */
  watchOrphans(listener: (orphans: Orphans) => void): void {
    this.onOrphans = listener;
    for (const orphans of this.orphans.splice(0)) listener(orphans);
  }

  /**
   * Ends a container that was not to be: kills what there is of it, and the
   * monitor itself when that hangs (a log or a mount on a dead file system).
   */
  async abandon(): Promise<void> {
    this.kill(SIGKILL);
    const ended = this.exited.then(
      () => true,
      () => true,
    );
    if (await Promise.race([ended, sleep(ABANDON_WITHIN_MS, false, { ref: false })])) return;
    if (this.process) signalProcess(this.process.pid, this.process.pidStartTime, SIGKILL);
    this.socket?.close();
  }

  /** Leaves the monitor to itself. */
  detach(): void {
    this.socket?.close();
  }

  private listen(open: (on: { onMessage: (m: HelperMessage) => void; onEnd: () => void }) => ControlSocket): void {
    this.socket = open({ onMessage: message => this.take(message), onEnd: () => this.ended() });
  }

  private need(): ControlSocket {
    if (this.socket) return this.socket;
    throw new BerthError('failed_precondition', "the container's monitor has ended");
  }

  private take(message: HelperMessage): void {
    switch (message.type) {
      case 'PREPARED':
        this.settlePrepared.resolve({
          uid: message.uid,
          gid: message.gid,
          groups: numbers(message.groups),
          home: message.home,
        });
        return;
      case 'HOOKS':
        this.settleHooks.resolve(message.pid);
        return;
      case 'CREATED':
        this.settleCreated.resolve({
          pid: message.pid,
          pidStartTime: message.startTime,
          uid: message.uid,
          gid: message.gid,
          groups: numbers(message.groups),
        });
        return;
      case 'TIMES':
        this.times = launchTimes(message);
        return;
      case 'RUNNING':
        this.startedAtNs = message.startedAtNs;
        this.settleRunning.resolve(message.startedAtNs);
        return;
      case 'EXITED':
        this.hasExited = true;
        this.settleExited.resolve({
          exitCode: message.exitCode,
          signal: message.signal,
          finishedAtNs: message.finishedAtNs,
          droppedBytes: message.droppedBytes,
        });
        return;
      case 'FAILED':
        return this.fail(launchError(message, planIn(this.stateDir) ?? NO_PLAN));
      case 'LOG_REOPENED': {
        const settle = this.reopening.shift();
        if (message.errno === 0) settle?.resolve();
        else settle?.reject(new BerthError('internal', `open the container's log again: errno ${message.errno}`));
        return;
      }
      case 'LOG_DROPPED':
        this.dropped = { bytes: message.bytes, why: getSystemErrorName(-message.errno) };
        this.onDropped(this.dropped);
        return;
      case 'ORPHANS':
        this.socket?.send({ type: 'ORPHANS_HEARD' });
        if (this.onOrphans) this.onOrphans(message);
        else this.orphans.push(message);
        return;
      case 'DONE':
      case 'OUTPUT':
      case 'ATTACHED':
      case 'DIALED':
    }
  }

  private ended(): void {
    this.socket = undefined;
    this.fail(
      this.hasExited
        ? new BerthError('failed_precondition', 'the container has exited')
        : new BerthError('internal', "the container's monitor ended without a word"),
    );
  }

  /** Rejects what has not settled yet. */
  private fail(error: BerthError): void {
    this.settlePrepared.reject(error);
    this.settleHooks.reject(error);
    this.settleCreated.reject(error);
    this.settleRunning.reject(error);
    this.settleExited.reject(error);
    for (const settle of this.reopening.splice(0)) settle.reject(error);
  }
}

/** Reads the records of a monitor that has ended. */
export async function readMonitorRecord(stateDir: string): Promise<MonitorRecord> {
  const exit = await readIfThere(join(stateDir, 'exit'));
  if (exit !== undefined) {
    const [exitCode = '', signal = '', startedAt = '', finishedAt = '', dropped = ''] = exit.trim().split(' ');
    return {
      kind: 'exited',
      startedAtNs: BigInt(startedAt),
      exit: {
        exitCode: Number(exitCode),
        signal: Number(signal),
        finishedAtNs: BigInt(finishedAt),
        droppedBytes: BigInt(dropped),
      },
    };
  }
  const failed = await readIfThere(join(stateDir, 'failed'));
  return failed === undefined ? { kind: 'none' } : { kind: 'failed', error: failureOf(failed, planIn(stateDir)) };
}

const NO_PLAN: LaunchPlan = { outer: [], inner: [] };

/** The launch plan of the monitor in this state directory, for people to read; undefined when it was not kept. */
export function planIn(stateDir: string): LaunchPlan | undefined {
  try {
    return decodePlan(readFileSync(join(stateDir, PLAN_FILE)));
  } catch {
    return undefined;
  }
}

/** Without its plan, the sentence has the errno and the detail, and no name of the step. */
function failureOf(record: string, plan: LaunchPlan = NO_PLAN): BerthError {
  const [, section = '0', step = '0', errno = '0', detail = ''] = /^(\d+) (\d+) (\d+) (.*)$/m.exec(record) ?? [];
  const failed = {
    type: 'FAILED',
    section: Number(section),
    step: Number(step),
    errno: Number(errno),
    detail,
  } as const;
  return launchError(failed, plan);
}

/** Who the monitor is, by its own record. */
async function processOf(stateDir: string): Promise<{ pid: number; pidStartTime: bigint } | undefined> {
  const [pid, pidStartTime] = ((await readIfThere(join(stateDir, 'monitor'))) ?? '').trim().split(' ');
  return pid && pidStartTime ? { pid: Number(pid), pidStartTime: BigInt(pidStartTime) } : undefined;
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

function numbers(packed: Buffer): number[] {
  return Array.from({ length: packed.length / 4 }, (_, i) => packed.readUInt32LE(i * 4));
}
