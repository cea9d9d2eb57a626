import { spawn } from 'node:child_process';
import { nativePath } from './paths';
import { UnpackFailure } from './unpack-process';

const outputBytesMax = 1024 * 1024;

/**
 * Runs `berth-unpack verify` and resolves with its lines; they are in native/unpack/main.c. `manifest` is a descriptor
 * of a regular file and stays the caller's. Rejects with an UnpackFailure when it could not look, or when `signal` aborts.
 */
export async function runVerify(dir: string, manifest: number, signal?: AbortSignal): Promise<string[]> {
  const child = spawn(nativePath('berth-unpack'), ['verify', '--dir', dir, '--manifest', '3'], {
    stdio: ['ignore', 'pipe', 'pipe', manifest],
    env: {},
    cwd: '/',
    signal,
    killSignal: 'SIGKILL',
  });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.on('data', (chunk: Buffer) => {
      if (output[name].length < outputBytesMax) output[name] += chunk.toString('latin1');
    });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', error => {
      if (child.pid === undefined) reject(error);
    });
    child.once('close', resolve);
  });
  signal?.throwIfAborted();
  if (code !== 0)
    throw new UnpackFailure('verify', 'EUNKNOWN', output.stderr.trim() || `exit status ${code ?? 'none'}`);
  return output.stdout.split('\n').filter(line => line !== '');
}
