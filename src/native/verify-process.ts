import { UnpackFailure } from './unpack-process';
import { runProgram } from './unpack-program';

/** More than it ever says; see unpack-process.ts. */
const linesMax = 64;

/**
 * Runs `berth-unpack verify` and resolves with its lines; they are in native/unpack/main.c. `manifest` is a descriptor
 * of a regular file and stays the caller's. Rejects with an UnpackFailure when it could not look, or when `signal` aborts.
 */
export async function runVerify(dir: string, manifest: number, signal?: AbortSignal): Promise<string[]> {
  const lines: string[] = [];
  const onLine = (line: string) => {
    if (lines.length < linesMax) lines.push(line);
  };
  const args = ['verify', '--dir', dir, '--manifest', '3'];
  const ended = await runProgram(args, { fds: [manifest], signal, onLine });
  signal?.throwIfAborted();
  if (ended.exitCode !== 0)
    throw new UnpackFailure('verify', 'EUNKNOWN', ended.stderr.trim() || `exit status ${ended.exitCode}`);
  return lines.filter(line => line !== '');
}
