import { closeSync } from 'node:fs';
import { Socket, type SocketConstructorOpts } from 'node:net';
import { BerthError } from '../base/errors';
import { addon } from '../native/addon';
import { ControlSocket } from '../native/control';
import { startHelper } from '../native/helper';
import type { StartedHelper } from '../native/spare-helpers';
import type { HelperMessage, LaunchPlan } from '../native/plan-ops';
import { launchError } from './launch-failure';
import { deferred } from './deferred';
import { reapWhenEnded } from './reap';

export interface ExecStart {
  plan: LaunchPlan;
  /** A pidfd of the container's process; stays the caller's. */
  target: number;
  name: string;
  /**
   * Gets output as it comes, in order; a returned promise holds the stream back until it settles. The chunk is the
   * taker's until then only: its memory is used again.
   */
  onOutput: (stream: 'stdout' | 'stderr', chunk: Buffer) => void | Promise<void>;
  /** Kills the command, also while it is being started; what does not end even then is given up. */
  signal?: AbortSignal;
  /** True for a process that reads: `stdin` of the running exec then is a stream. */
  stdin: boolean;
  /** The plan gives the process a terminal: its output is `stdout` then. */
  isTerminal?: boolean;
}

/** In characters. */
export interface TerminalSize {
  columns: number;
  rows: number;
}

export interface RunningExec {
  /** Settles once the process has ended and all output that it wrote has been delivered. */
  exited: Promise<{ exitCode: number; signal: number }>;
  stdin: Socket | undefined;
  /** To the process and what it started in its session. */
  kill(signal: number): void;
  /** Of its terminal, if it has one. */
  resize(size: TerminalSize): void;
}

/**
 * After the end of the command its output is there at once. Only a process that
 * it left behind, and that holds its pipe's lock, can keep the relay waiting.
 */
const OUTPUT_WITHIN_MS = 10_000;

/** A killed command is gone at once, unless the kernel holds it (a frozen cgroup, state D): then it is given up. */
const KILL_WITHIN_MS = 2000;

const SIGKILL = 9;

/** Runs one more process in a container. Resolves once it runs; rejects with a sentence when it cannot. */
export async function startExec(start: ExecStart): Promise<RunningExec> {
  const sockets: [number, number][] = [];
  let helper: StartedHelper;
  try {
    for (let i = 0; i < (start.stdin ? 3 : 2); i++) sockets.push(addon().socketPair());
    const [[, outTheirs], [, errTheirs], [, inTheirs] = []] = sockets as Pairs;
    // A terminal has one output: the helper lets go of the other end, which is at its end at once.
    const stdio = [inTheirs, outTheirs, start.isTerminal ? undefined : errTheirs] as const;
    helper = await startHelper({ role: 'exec', name: start.name, plan: start.plan, stdio, extra: start.target });
  } catch (error) {
    for (const [ours] of sockets) closeSync(ours);
    throw error;
  } finally {
    for (const [, theirs] of sockets) closeSync(theirs);
  }
  const [[outOurs], [errOurs], [inOurs] = []] = sockets as Pairs;
  const outputs = [
    new Output(outOurs, chunk => start.onOutput('stdout', chunk)),
    new Output(errOurs, chunk => start.onOutput('stderr', chunk)),
  ];
  // Whoever speaks with a command waits for its words.
  if (start.stdin || start.isTerminal) for (const output of outputs) output.open();
  return run(helper, start, outputs, inOurs === undefined ? undefined : inputTo(inOurs));
}

type Pair = [ours: number, theirs: number];
type Pairs = [stdout: Pair, stderr: Pair, stdin?: Pair];

/** The command's stdin. That it ends, or never reads, is the writer's loss, not the daemon's end. */
function inputTo(fd: number): Socket {
  const stdin = new Socket({ fd, readable: true, writable: true });
  stdin.on('error', () => stdin.destroy());
  stdin.resume();
  return stdin;
}

async function run(
  helper: StartedHelper,
  { plan, signal }: ExecStart,
  outputs: Output[],
  stdin: Socket | undefined,
): Promise<RunningExec> {
  let hasHelperEnded = false;
  reapWhenEnded(helper.pidfd, () => (hasHelperEnded = true));
  const started = deferred<void>();
  const exited = deferred<{ exitCode: number; signal: number }>();
  const fail = (error: Error) => {
    for (const output of outputs) output.close();
    stdin?.destroy();
    started.reject(error);
    exited.reject(error);
  };
  const finish = async (message: Extract<HelperMessage, { type: 'EXITED' }>) => {
    stdin?.destroy();
    await Promise.all(outputs.map(output => output.finish()));
    exited.resolve({ exitCode: message.exitCode, signal: message.signal });
  };
  let isOver = false;
  const control = ControlSocket.fromFd(
    helper.controlFd,
    message => {
      if (message.type === 'RUNNING') started.resolve();
      else if (message.type === 'OUTPUT') for (const output of outputs) output.open();
      else if (message.type === 'FAILED') fail(launchError(message, plan));
      else if (message.type === 'EXITED') {
        isOver = true;
        finish(message).catch(fail);
      }
    },
    () => {
      if (!isOver) fail(new BerthError('internal', 'the helper of an exec ended without a word'));
    },
  );
  const onAbort = () => {
    control.send({ type: 'KILL', signal: SIGKILL });
    setTimeout(() => {
      if (isOver || hasHelperEnded) return;
      addon().pidfdSignal(helper.pidfd, SIGKILL);
      fail(new BerthError('deadline_exceeded', 'the command was killed and does not end: the kernel holds it'));
    }, KILL_WITHIN_MS).unref();
  };
  if (signal?.aborted) onAbort();
  signal?.addEventListener('abort', onAbort, { once: true });
  void exited.promise.catch(() => undefined).finally(() => signal?.removeEventListener('abort', onAbort));
  await started.promise;
  return {
    exited: exited.promise,
    stdin,
    kill: number => control.send({ type: 'KILL', signal: number }),
    resize: size => control.send({ type: 'RESIZE', rows: size.rows & 0xffff, columns: size.columns & 0xffff }),
  };
}

/** Most commands print a line or two. */
const FIRST_READ_BYTES = 4096;
/** Of one read, at most: about what a socket holds. */
const READ_BYTES = 256 * 1024;

/**
 * One of the command's outputs, as the relay brings it. A slow taker holds it back, and with it the command. All reads go
 * into one piece of memory: a buffer for each keeps the garbage collector busier than all the rest of an exec.
 */
class Output {
  /** Once there is a relay, or more to come after the command's end: most commands need no stream, which costs more than they. */
  private socket: Socket | undefined;
  private readonly ended = deferred<void>();
  private pending: Promise<void> = Promise.resolve();
  private isSlow = false;
  private isClosed = false;
  /** How often something came, or was taken at last. */
  private moves = 0;
  private memory: Buffer = Buffer.allocUnsafe(FIRST_READ_BYTES);

  constructor(
    private readonly fd: number,
    private readonly deliver: (chunk: Buffer) => void | Promise<void>,
  ) {}

  /** Takes from now on what comes. */
  open(): void {
    if (this.socket || this.isClosed) return;
    const onread = { buffer: () => this.memory, callback: (bytes: number) => this.take(bytes) };
    // Its types know of `onread` for connections only.
    const options = { fd: this.fd, readable: true, writable: false, onread } as SocketConstructorOpts;
    const socket = (this.socket = new Socket(options));
    socket.on('error', () => socket.destroy());
    socket.once('close', () => this.ended.resolve());
  }

  /** Resolves when all that was written has been delivered; a relay that is kept waiting is given up. */
  async finish(): Promise<void> {
    if (!this.socket && (await this.takeAll())) return;
    this.open();
    let seen = this.moves;
    const timer = setInterval(() => {
      // A whole turn in which the taker could have taken more, and nothing came.
      if (!this.isSlow && this.moves === seen) this.close();
      seen = this.moves;
    }, OUTPUT_WITHIN_MS);
    await this.ended.promise;
    clearInterval(timer);
    await this.pending;
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    if (this.socket) {
      this.socket.destroy();
    } else {
      closeSync(this.fd);
      this.ended.resolve();
    }
  }

  /** After the command's end, without a stream; false when something has to come yet. */
  private async takeAll(): Promise<boolean> {
    for (let received; !this.isClosed && (received = addon().receive(this.fd)) !== null;) {
      const [chunk] = received;
      if (chunk.length === 0) this.close();
      else await this.deliver(chunk);
    }
    return this.isClosed;
  }

  /** What was read lies in `memory`; false stops reading. */
  private take(bytes: number): boolean {
    this.moves++;
    const delivered = this.deliver(this.memory.subarray(0, bytes));
    // The chunk stays where it is, for whoever has not done with it.
    if (bytes === this.memory.length && bytes < READ_BYTES) this.memory = Buffer.allocUnsafeSlow(bytes * 8);
    if (!(delivered instanceof Promise)) return true;
    this.isSlow = true;
    this.pending = delivered
      .catch(() => undefined)
      .then(() => {
        this.isSlow = false;
        this.moves++;
        this.socket?.resume();
      });
    return false;
  }
}
