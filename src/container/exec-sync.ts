import { anySignal } from '../base/any-signal';
import type { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { BerthError } from '../base/errors';
import type { Container, Containers } from './containers';
import { execInContainer } from './exec';

export interface ExecSyncResult {
  /** In pieces, one after the other. */
  stdout: readonly Buffer[];
  stderr: readonly Buffer[];
  exitCode: number;
}

/** Of each stream; what is more is read and thrown away, so that the command goes on (CVE-2022-1708, CVE-2022-31030). */
const EXEC_SYNC_MAX_BYTES = 16 * 1024 * 1024;

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
  const late = endOf(timeoutSeconds);
  ctx.stage(`run ${JSON.stringify(command[0])}`);
  ctx.allow(timeoutSeconds > 0 ? timeoutSeconds * 1000 : Infinity);
  try {
    const exec = await execInContainer(containers, container, {
      command,
      stdin: false,
      onOutput: (stream, chunk) => kept[stream].take(chunk),
      signal: late ? anySignal([ctx.signal, late]) : ctx.signal,
    });
    const { exitCode } = await exec.exited;
    crashPoint('exec.ended');
    assertInTime(ctx, late, command, timeoutSeconds);
    return { stdout: kept.stdout.pieces(), stderr: kept.stderr.pieces(), exitCode };
  } catch (error) {
    assertInTime(ctx, late, command, timeoutSeconds);
    throw error;
  }
}

/** Aborts when the time is over; undefined for no limit. Timers take whole milliseconds: 16.1 s are no whole number of them. */
export function endOf(timeoutSeconds: number): AbortSignal | undefined {
  return timeoutSeconds > 0 ? AbortSignal.timeout(Math.round(timeoutSeconds * 1000)) : undefined;
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

const FIRST_BLOCK_BYTES = 4096;
const LAST_BLOCK_BYTES = 1024 * 1024;

/** Keeps the first bytes, in blocks: many small chunks must not cost more than their bytes, nor are many bytes moved twice. */
class Capped {
  private readonly blocks: Buffer[] = [];
  /** Of the last block. */
  private free: Buffer = Buffer.alloc(0);
  private length = 0;

  constructor(private readonly limit: number) {}

  take(chunk: Buffer): void {
    for (let rest = chunk.subarray(0, this.limit - this.length); rest.length > 0;) {
      if (this.free.length === 0) this.grow();
      const taken = rest.copy(this.free);
      this.free = this.free.subarray(taken);
      this.length += taken;
      rest = rest.subarray(taken);
    }
  }

  pieces(): Buffer[] {
    const last = this.blocks.at(-1);
    if (!last) return [];
    return [...this.blocks.slice(0, -1), last.subarray(0, last.length - this.free.length)];
  }

  private grow(): void {
    const bytes = Math.min(LAST_BLOCK_BYTES, Math.max(FIRST_BLOCK_BYTES, this.length * 3));
    this.free = Buffer.allocUnsafeSlow(bytes);
    this.blocks.push(this.free);
  }
}
