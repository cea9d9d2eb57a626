import { closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { addon } from './addon';

export interface ProgramOutcome {
  /** undefined when it was killed. */
  readonly status: number | undefined;
  readonly stdout: string;
  /** Its beginning. */
  readonly stderr: string;
  readonly timedOut: boolean;
  readonly tooLong: boolean;
}

export interface ProgramOptions {
  readonly input: string;
  /** What it is called; its path, otherwise. */
  readonly argv0?: string;
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  /** Of stdout. */
  readonly outputBytesMax: number;
  /** Kills it. */
  readonly signal?: AbortSignal;
}

const stderrBytesMax = 16 * 1024;

/** For what a program has said to arrive, once it has ended. */
const afterEndMs = 1000;

/**
 * Runs a small program to its end, in a process group of its own that is killed
 * when it takes longer than `timeoutMs` or says more than `outputBytesMax`.
 * Rejects, with the errno as `code`, when it cannot be started.
 */
export async function runProgram(
  path: string,
  args: readonly string[],
  { input, argv0 = path, env, timeoutMs, outputBytesMax, signal }: ProgramOptions,
): Promise<ProgramOutcome> {
  const native = addon();
  const ours: number[] = [];
  const theirs: number[] = [];
  const output = () => {
    const [readEnd, writeEnd] = native.pipe();
    ours.push(readEnd);
    theirs.push(writeEnd);
  };
  let child: { pid: number; pidfd: number };
  try {
    theirs.push(inputOf(input));
    output();
    output();
    const environment = Object.entries(env).map(([key, value]) => `${key}=${value}`);
    child = await native.spawnPath(path, [argv0, ...args], theirs, environment);
  } catch (error) {
    for (const fd of ours) closeSync(fd);
    throw error;
  } finally {
    for (const fd of theirs) closeSync(fd);
  }

  const [stdout = -1, stderr = -1] = ours;
  let [timedOut, tooLong, said, complaint] = [false, false, '', ''];
  const kill = () => killGroup(child.pid);
  const timer = setTimeout(() => {
    timedOut = true;
    kill();
  }, timeoutMs);
  signal?.addEventListener('abort', kill, { once: true });
  if (signal?.aborted) kill();
  const reading = [
    readText(stdout, text => {
      said += text;
      if (said.length <= outputBytesMax) return;
      tooLong = true;
      kill();
    }),
    readText(stderr, text => (complaint = (complaint + text).slice(0, stderrBytesMax))),
  ];
  try {
    const code = await ended(child.pidfd);
    // What it left running may hold its output open: nothing of its group outlives it, and others are not waited for.
    kill();
    await Promise.race([Promise.all(reading.map(({ over }) => over)), sleep(afterEndMs, undefined, { ref: false })]);
    return { status: code > 128 ? undefined : code, stdout: said, stderr: complaint, timedOut, tooLong };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', kill);
    for (const { stop } of reading) stop();
    closeSync(child.pidfd);
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended already.
  }
}

/** A file in memory: unlike a socket it can be opened as /dev/stdin, and unlike a pipe it asks nobody to write. */
function inputOf(text: string): number {
  const sealed = addon().memfd(Buffer.from(text), 'berth-input');
  try {
    return openSync(`/proc/self/fd/${sealed}`, 'r');
  } finally {
    closeSync(sealed);
  }
}

function readText(fd: number, onText: (text: string) => void): { over: Promise<void>; stop: () => void } {
  const socket = new Socket({ fd, readable: true, writable: false });
  const over = new Promise<void>(resolve => {
    socket
      .setEncoding('utf8')
      .on('data', (text: string) => onText(text))
      .on('error', () => undefined)
      .once('close', () => resolve());
  });
  return { over, stop: () => void socket.destroy() };
}

function ended(pidfd: number): Promise<number> {
  return new Promise(resolve => {
    const stop = addon().watch(pidfd, () => {
      stop();
      resolve(addon().reap(pidfd) ?? 255);
    });
  });
}
