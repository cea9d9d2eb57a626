import type { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { BerthError } from '../base/errors';
import type { Container, Containers } from './containers';
import { execInContainer } from './exec';

export interface ExecSyncResult {
  stdout: Buffer;
  stderr: Buffer;
  exitCode: number;
}

/** Of each stream; what is more is read and thrown away, so that the command goes on (CVE-2022-1708, CVE-2022-31030). */
export const EXEC_SYNC_MAX_BYTES = 16 * 1024 * 1024;

/** ExecSync: runs a command to its end, at most `timeoutSeconds` (0: no limit); a time-out kills it and is `deadline_exceeded`. */
export async function execSync(
  containers: Containers,
  ctx: Context,
  container: Container,
  command: readonly string[],
  timeoutSeconds: number,
): Promise<ExecSyncResult> {
  const kept = { stdout: new Capped(EXEC_SYNC_MAX_BYTES), stderr: new Capped(EXEC_SYNC_MAX_BYTES) };
  // The clock runs from here on: a command may also hang while it is started.
  const late = timeoutSeconds > 0 ? AbortSignal.timeout(timeoutSeconds * 1000) : undefined;
  ctx.stage(`run ${JSON.stringify(command[0])}`);
  try {
    const exec = await execInContainer(containers, container, {
      command,
      stdin: false,
      onOutput: (stream, chunk) => kept[stream].take(chunk),
      signal: late ? AbortSignal.any([ctx.signal, late]) : ctx.signal,
    });
    const { exitCode } = await exec.exited;
    crashPoint('exec.ended');
    assertInTime(ctx, late, command, timeoutSeconds);
    return { stdout: kept.stdout.bytes(), stderr: kept.stderr.bytes(), exitCode };
  } catch (error) {
    assertInTime(ctx, late, command, timeoutSeconds);
    throw error;
  }
}

function assertInTime(ctx: Context, late: AbortSignal | undefined, command: readonly string[], seconds: number): void {
  if (late?.aborted) {
    throw new BerthError(
      'deadline_exceeded',
      `command ${JSON.stringify(command[0])} did not end within ${seconds} s and was killed`,
    );
  }
  ctx.throwIfEnded();
}

/** Keeps the first bytes, in one piece: many small chunks must not cost more than their bytes. */
class Capped {
  private buffer = Buffer.allocUnsafe(4096);
  private length = 0;

  constructor(private readonly limit: number) {}

  take(chunk: Buffer): void {
    const kept = chunk.subarray(0, this.limit - this.length);
    if (this.length + kept.length > this.buffer.length) {
      const larger = Buffer.allocUnsafe(
        Math.min(this.limit, Math.max(this.buffer.length * 2, this.length + kept.length)),
      );
      this.buffer.copy(larger, 0, 0, this.length);
      this.buffer = larger;
    }
    kept.copy(this.buffer, this.length);
    this.length += kept.length;
  }

  bytes(): Buffer {
    return this.buffer.subarray(0, this.length);
  }
}
