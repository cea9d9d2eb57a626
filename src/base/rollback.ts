import { messageOf } from './errors';
import type { Logger } from './log';

interface Undo {
  name: string;
  act: () => unknown;
}

/** What could not be undone, by step name; it belongs into the record so that a later Stop or Remove finishes it. */
export interface Leftover {
  step: string;
  reason: string;
}

/**
 * Undo written beside do. Steps that have run are undone in reverse, each to
 * its end, when the scope is left without `commit()`. Undoing never throws and
 * never hides the error that caused it, and it has its own deadline, because
 * the caller's is often what expired.
 *
 *     await using undo = new Rollback(log, left => records.markUnclean(id, left));
 *     const netns = await undo.step('pin netns', () => pin(), () => unpin());
 *     undo.commit();
 */
export class Rollback implements AsyncDisposable {
  private readonly undos: Undo[] = [];
  private committed = false;

  constructor(
    private readonly log: Logger,
    private readonly onLeftovers: (left: Leftover[]) => unknown = () => undefined,
    private readonly stepTimeoutMs = 10_000,
  ) {}

  /**
   * Runs `act` and remembers `undo` for it. With `alsoIfActFailed`, `undo` runs
   * even for an `act` that threw, for acts that may have half happened.
   */
  async step<T>(
    name: string,
    act: () => T | Promise<T>,
    undo: (done: Awaited<T> | undefined) => unknown,
    options: { alsoIfActFailed?: boolean } = {},
  ): Promise<Awaited<T>> {
    if (options.alsoIfActFailed) this.undos.push({ name, act: () => undo(undefined) });
    const done = await act();
    if (!options.alsoIfActFailed) this.undos.push({ name, act: () => undo(done) });
    return done;
  }

  /** Keeps everything that was done. */
  commit(): void {
    this.committed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.committed) return;
    const left: Leftover[] = [];
    for (const { name, act } of this.undos.reverse()) {
      try {
        await withinMs(this.stepTimeoutMs, act());
      } catch (error) {
        left.push({ step: name, reason: messageOf(error) });
        this.log.warn(`could not undo "${name}": ${messageOf(error)}`);
      }
    }
    if (left.length === 0) return;
    try {
      await this.onLeftovers(left);
    } catch (error) {
      this.log.error(`could not record what was left undone: ${messageOf(error)}`, { left });
    }
  }
}

/** Like Promise.all, but rejects only once nothing runs any more: undoing must not meet a step that is still at work. */
export async function together<Works extends readonly [Promise<unknown>, ...Promise<unknown>[]]>(
  works: Works,
): Promise<{ -readonly [Index in keyof Works]: Awaited<Works[Index]> }> {
  await Promise.allSettled(works);
  return Promise.all(works);
}

async function withinMs(ms: number, work: unknown): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`gave up after ${ms} ms`)), ms);
  });
  try {
    await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
