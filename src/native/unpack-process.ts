import { spawn, type ChildProcess } from 'node:child_process';
import { getSystemErrorName } from 'node:util';
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { nativePath } from './paths';

/** What berth-unpack says when it fails; the words are in native/unpack. */
export class UnpackFailure extends Error {
  constructor(
    readonly step: string,
    /** `ENOSPC`, or `EUNKNOWN` when the process died without a word. */
    readonly errno: string,
    readonly path: string,
  ) {
    super(`${step} ${errno} ${path}`.trimEnd());
    this.name = 'UnpackFailure';
  }
}

const outputBytesMax = 64 * 1024;

/**
 * Runs berth-unpack and feeds it `input` as fast as it reads. Resolves with its
 * summary; rejects with an UnpackFailure, with the error of `input` if that broke
 * off first, or when `signal` aborts. When it settles the process is gone and
 * `input` is destroyed.
 */
export async function runUnpack(
  args: readonly string[],
  options: { input?: Readable; signal?: AbortSignal } = {},
): Promise<ReadonlyMap<string, string>> {
  const child = spawn(nativePath('berth-unpack'), args, {
    stdio: [options.input ? 'pipe' : 'ignore', 'pipe', 'pipe'],
    env: {},
    cwd: '/',
    signal: options.signal,
    killSignal: 'SIGKILL',
  });
  const fed = options.input && child.stdin ? feed(child, options.input, child.stdin) : Promise.resolve(undefined);
  const [ended, inputError] = await Promise.all([whenEnded(child), fed]);
  options.signal?.throwIfAborted();
  if (ended.startError) throw ended.startError;
  if (inputError !== undefined) throw inputError;
  if (ended.status !== 0) throw failureIn(ended.stderr, ended.status);
  return new Map(ended.stdout.split('\n').flatMap(line => (line ? [pair(line)] : [])));
}

/** Resolves with the error of `input` that ended the child, or undefined; a child that reads no more is not one. */
async function feed(child: ChildProcess, input: Readable, stdin: Writable): Promise<Error | undefined> {
  let broken: Error | undefined;
  input.once('error', error => (broken ??= error));
  try {
    await pipeline(input, stdin);
    return undefined;
  } catch {
    input.destroy();
    if (broken !== undefined && !isPipeError(broken)) child.kill('SIGKILL');
    return isPipeError(broken) ? undefined : broken;
  }
}

function isPipeError(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    (error.code === 'EPIPE' || error.code === 'ECONNRESET') &&
    'syscall' in error &&
    error.syscall === 'write'
  );
}

interface Ended {
  status: number | undefined;
  stdout: string;
  stderr: string;
  startError: Error | undefined;
}

function whenEnded(child: ChildProcess): Promise<Ended> {
  return new Promise(resolve => {
    const ended: Ended = { status: undefined, stdout: '', stderr: '', startError: undefined };
    child.stdout?.on('data', (chunk: Buffer) => {
      if (ended.stdout.length < outputBytesMax) ended.stdout += chunk.toString('latin1');
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      if (ended.stderr.length < outputBytesMax) ended.stderr += chunk.toString('utf8');
    });
    child.once('error', error => {
      if (child.pid === undefined) ended.startError = error;
    });
    child.once('close', code => {
      resolve({ ...ended, status: code ?? undefined });
    });
  });
}

function failureIn(stderr: string, status: number | undefined): UnpackFailure {
  const [, step, errno, path] = /^(\S+) (\d+) (\S*)$/m.exec(stderr) ?? [];
  if (step === undefined || errno === undefined)
    return new UnpackFailure('died', 'EUNKNOWN', status === undefined ? 'killed' : `exit status ${status}`);
  return new UnpackFailure(step, errnoName(Number(errno)), unescapePath(path ?? ''));
}

function errnoName(errno: number): string {
  return errno > 0 ? getSystemErrorName(-errno) : 'EUNKNOWN';
}

function unescapePath(path: string): string {
  return path.replace(/%([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
}

function pair(line: string): [string, string] {
  const blank = line.indexOf(' ');
  return [line.slice(0, blank), line.slice(blank + 1)];
}
