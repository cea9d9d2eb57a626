import { closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { BerthError, errnoOf } from '../base/errors';
import { addon } from './addon';
import { nativePath } from './paths';

export interface ProgramOptions {
  /** Descriptor 0; /dev/null where not given. It stays the caller's. */
  readonly stdin?: number | undefined;
  /** Descriptors that the process gets as 3, 4, …; they stay the caller's. */
  readonly fds?: readonly number[];
  /** Kills the process. */
  readonly signal?: AbortSignal | undefined;
  /** The process runs, and has its descriptors. */
  readonly onStarted?: () => void;
  /** Each line of its output, without its end. */
  readonly onLine: (line: string) => void;
}

/** How a run of berth-unpack ended. */
export interface Ended {
  /** 128 + the signal when it was killed. */
  readonly exitCode: number;
  readonly stderr: string;
}

const SIGKILL = 9;

/** Of a line, and of all that is said on stderr. */
const textBytesMax = 64 * 1024;

/**
 * Runs berth-unpack with `args`; resolves once it is gone and all that it said has been heard. Started by the addon:
 * child_process.spawn forks, which for a daemon of this size blocks the event loop for 5 to 10 ms each time.
 */
export async function runProgram(args: readonly string[], options: ProgramOptions): Promise<Ended> {
  const { stdin, fds = [], signal, onStarted, onLine } = options;
  const native = addon();
  const ours: number[] = [];
  const theirs: number[] = [];
  const output = () => {
    const [readEnd, writeEnd] = native.pipe();
    ours.push(readEnd);
    theirs.push(writeEnd);
    return writeEnd;
  };
  let child: { pid: number; pidfd: number };
  try {
    signal?.throwIfAborted();
    theirs.push(openProgram());
    theirs.push(openSync('/dev/null', 'r'));
    const [program = -1, devNull = -1] = theirs;
    const all = [stdin ?? devNull, output(), output(), ...fds];
    child = await native.spawn(program, ['berth-unpack', ...args], all, -1);
  } catch (error) {
    for (const fd of ours) closeSync(fd);
    throw error;
  } finally {
    for (const fd of theirs) closeSync(fd);
  }
  onStarted?.();
  const kill = () => {
    try {
      native.pidfdSignal(child.pidfd, SIGKILL);
    } catch (error) {
      if (errnoOf(error) !== 'ESRCH') throw error; // it has ended by itself
    }
  };
  if (signal?.aborted) kill();
  else signal?.addEventListener('abort', kill, { once: true });
  const [stdout = -1, stderr = -1] = ours;
  let said = '';
  try {
    const [exitCode] = await Promise.all([
      whenEnded(child.pidfd),
      readLines(stdout, onLine),
      readAll(stderr, text => {
        if (said.length < textBytesMax) said += text;
      }),
    ]);
    return { exitCode, stderr: said };
  } finally {
    signal?.removeEventListener('abort', kill);
    closeSync(child.pidfd);
  }
}

function openProgram(): number {
  const path = nativePath('berth-unpack');
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    throw new BerthError('failed_precondition', `berth-unpack is not built: ${path} does not exist`, {
      hint: 'run `make build`',
    });
  }
}

/** Its exit code, once there is one. */
function whenEnded(pidfd: number): Promise<number> {
  return new Promise(resolve => {
    const stop = addon().watch(pidfd, () => {
      stop();
      resolve(addon().reap(pidfd) ?? 255);
    });
  });
}

async function readLines(fd: number, onLine: (line: string) => void): Promise<void> {
  let begun = '';
  await readAll(fd, text => {
    const lines = (begun + text).split('\n');
    begun = (lines.pop() ?? '').slice(0, textBytesMax);
    lines.forEach(onLine);
  });
}

/** Latin-1, so that every byte is a character; an error of a pipe is its end. */
function readAll(fd: number, onText: (text: string) => void): Promise<void> {
  return new Promise(resolve => {
    new Socket({ fd, readable: true, writable: false })
      .on('data', chunk => onText(chunk.toString('latin1')))
      .on('error', () => undefined)
      .once('close', () => resolve());
  });
}
