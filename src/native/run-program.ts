import { spawn } from 'node:child_process';

export interface ProgramOutcome {
  /** undefined when it was killed. */
  readonly status: number | undefined;
  readonly stdout: string;
  readonly timedOut: boolean;
  readonly tooLong: boolean;
}

/**
 * Runs a small program to its end, in a process group of its own that is killed
 * when it takes longer than `timeoutMs` or says more than `outputBytesMax`. What
 * it writes to stderr goes nowhere. Rejects when it cannot be started.
 */
export function runProgram(
  path: string,
  args: readonly string[],
  options: { input: string; env: Record<string, string>; timeoutMs: number; outputBytesMax: number },
): Promise<ProgramOutcome> {
  const child = spawn(path, args, { stdio: ['pipe', 'pipe', 'ignore'], env: options.env, cwd: '/', detached: true });
  let [stdout, timedOut, tooLong] = ['', false, false];
  const kill = () => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It has ended already.
    }
    child.stdout.destroy();
  };
  child.stdin.on('error', () => undefined); // it need not read
  child.stdin.end(options.input);
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    stdout += chunk;
    if (stdout.length <= options.outputBytesMax) return;
    tooLong = true;
    kill();
  });
  const timer = setTimeout(() => {
    timedOut = true;
    kill();
  }, options.timeoutMs);
  return new Promise<ProgramOutcome>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', code => resolve({ status: code ?? undefined, stdout, timedOut, tooLong }));
  }).finally(() => clearTimeout(timer));
}
