import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { addon } from './addon';
import { runProgram, type Ended, type ProgramOptions } from './unpack-program';

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

/** A small pipe costs half of the speed: the threads at its ends wait for each other. */
const pipeBytes = 1024 * 1024;

/** More than a summary has; whoever has overtaken the process cannot fill this one's memory. */
const summaryLinesMax = 64;

/**
 * Runs berth-unpack. Resolves with its summary; rejects with an UnpackFailure,
 * with the error of the input's `fill` if that broke off first, or when `signal`
 * aborts. When it settles the process is gone and `fill` has ended.
 */
export async function runUnpack(
  args: readonly string[],
  { input, fds = [], onProgress, signal }: UnpackOptions = {},
): Promise<ReadonlyMap<string, string>> {
  const pipe = input && 'fill' in input ? addon().pipe(pipeBytes) : undefined;
  const stdin = pipe?.[0] ?? (input && 'file' in input ? input.file : undefined);
  let fed: Feeding | undefined;
  const summary = new Map<string, string>();
  try {
    const ended = await runProgram(args, {
      stdin,
      fds,
      signal,
      onStarted: () => {
        if (pipe) closeSync(pipe[0]);
        fed = new Feeding(input, pipe?.[1]);
      },
      onLine: line => {
        const [key, value] = pair(line);
        if (key === 'progress') onProgress?.(Number(value));
        else if (key !== '' && summary.size < summaryLinesMax) summary.set(key, value);
      },
    });
    const inputError = await fed?.stop();
    signal?.throwIfAborted();
    if (ended.exitCode === 0) return summary;
    const failure = failureIn(ended);
    throw failure.step === 'too-short' && inputError !== undefined ? inputError : failure;
  } catch (error) {
    if (pipe && !fed) for (const fd of pipe) closeSync(fd);
    throw error;
  }
}

/** Runs berth-unpack for all that it says, line by line, however much that is. Rejects as `runUnpack` does. */
export async function scanProgram(
  args: readonly string[],
  { signal, ...options }: Pick<ProgramOptions, 'onLine' | 'stdin'> & { readonly signal: AbortSignal },
): Promise<void> {
  const ended = await runProgram(args, { signal, ...options });
  signal.throwIfAborted();
  if (ended.exitCode !== 0) throw failureIn(ended);
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

function failureIn({ stderr, exitCode }: Ended): UnpackFailure {
  const [, step, errno, path] = /^(\S+) (\d+) (\S*)$/m.exec(stderr) ?? [];
  if (step === undefined || errno === undefined)
    return new UnpackFailure(
      'died',
      'EUNKNOWN',
      exitCode > 128 ? `killed by ${signalName(exitCode - 128)}` : `exit status ${exitCode}`,
    );
  return new UnpackFailure(step, errnoName(Number(errno)), unescapePath(path ?? ''));
}

/** SIGSYS: it made a system call that berth-unpack never makes. */
function signalName(number: number): string {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `signal ${number}`;
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
