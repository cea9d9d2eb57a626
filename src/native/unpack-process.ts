import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { addon } from './addon';
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

/** Where the process' stdin comes from: a file as it stands (the descriptor stays the caller's), or a pipe. */
export type UnpackInput =
  | { readonly file: number }
  | {
      /**
       * Writes everything into the pipe `fd`, closes it in any case, and rejects when what it reads from broke
       * off. `signal` aborts when nobody reads any more.
       */
      fill(fd: number, signal: AbortSignal): Promise<void>;
    };

export interface UnpackOptions {
  readonly input?: UnpackInput;
  /** Descriptors that the process gets as 3, 4, …; they stay the caller's. */
  readonly fds?: readonly number[];
  /** Compressed bytes read so far, a few times a second. */
  readonly onProgress?: (bytes: number) => void;
  readonly signal?: AbortSignal;
}

const outputBytesMax = 64 * 1024;

/**
 * Runs berth-unpack. Resolves with its summary; rejects with an UnpackFailure,
 * with the error of the input's `fill` if that broke off first, or when `signal`
 * aborts. When it settles the process is gone and `fill` has ended.
 */
export async function runUnpack(
  args: readonly string[],
  options: UnpackOptions = {},
): Promise<ReadonlyMap<string, string>> {
  const { child, fed } = start(args, options);
  const ended = await whenEnded(child, options.onProgress);
  const inputError = await fed.stop();
  options.signal?.throwIfAborted();
  if (ended.startError) throw ended.startError;
  if (ended.status === 0) return ended.summary;
  const failure = failureIn(ended);
  throw failure.step === 'too-short' && inputError !== undefined ? inputError : failure;
}

/** The process, and what feeds it; our ends of the pipe are closed or given away. */
function start(args: readonly string[], { input, fds = [], signal }: UnpackOptions) {
  const pipe = input && 'fill' in input ? addon().pipe() : undefined;
  const stdin = pipe?.[0] ?? (input && 'file' in input ? input.file : 'ignore');
  let child: ChildProcess | undefined;
  try {
    child = spawn(nativePath('berth-unpack'), args, {
      stdio: [stdin, 'pipe', 'pipe', ...fds],
      env: {},
      cwd: '/',
      signal,
      killSignal: 'SIGKILL',
    });
    if (pipe && child.pid === undefined) closeSync(pipe[1]);
    return { child, fed: new Feeding(child.pid === undefined ? undefined : input, pipe?.[1]) };
  } catch (error) {
    if (pipe) closeSync(pipe[1]);
    throw error;
  } finally {
    if (pipe) closeSync(pipe[0]);
  }
}

/** A `fill` under way. Its end is the process' to wait for, and its error only counts when the process missed something. */
class Feeding {
  private readonly over = new AbortController();
  private readonly settled: Promise<Error | undefined>;

  constructor(input: UnpackInput | undefined, fd: number | undefined) {
    this.settled =
      input && 'fill' in input && fd !== undefined
        ? input.fill(fd, this.over.signal).then(
            () => undefined,
            (error: unknown) => (error instanceof Error ? error : new Error(String(error))),
          )
        : Promise.resolve(undefined);
  }

  stop(): Promise<Error | undefined> {
    this.over.abort();
    return this.settled;
  }
}

interface Ended {
  status: number | undefined;
  /** What killed it. SIGSYS: it made a system call that berth-unpack never makes. */
  signal: NodeJS.Signals | undefined;
  summary: Map<string, string>;
  stderr: string;
  startError: Error | undefined;
}

function whenEnded(child: ChildProcess, onProgress?: (bytes: number) => void): Promise<Ended> {
  return new Promise(resolve => {
    const ended: Ended = {
      status: undefined,
      signal: undefined,
      summary: new Map(),
      stderr: '',
      startError: undefined,
    };
    let begun = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      const lines = (begun + chunk.toString('latin1')).split('\n');
      begun = lines.pop() ?? '';
      for (const line of lines) {
        const [key, value] = pair(line);
        if (key === 'progress') onProgress?.(Number(value));
        else if (key !== '') ended.summary.set(key, value);
      }
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      if (ended.stderr.length < outputBytesMax) ended.stderr += chunk.toString('utf8');
    });
    child.once('error', error => {
      if (child.pid === undefined) ended.startError = error;
    });
    child.once('close', (code, signal) => {
      resolve({ ...ended, status: code ?? undefined, signal: signal ?? undefined });
    });
  });
}

function failureIn({ stderr, status, signal }: Ended): UnpackFailure {
  const [, step, errno, path] = /^(\S+) (\d+) (\S*)$/m.exec(stderr) ?? [];
  if (step === undefined || errno === undefined)
    return new UnpackFailure('died', 'EUNKNOWN', signal ? `killed by ${signal}` : `exit status ${status ?? 'unknown'}`);
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
