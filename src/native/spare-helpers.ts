import { closeSync } from 'node:fs';
import { addon, type Spawned } from './addon';

export interface StartedHelper extends Spawned {
  /** The daemon's end of the control socket; belongs to the caller. */
  controlFd: number;
}

/** A container that is made, and a command in it right after, need not wait for the start of a program. */
const SPARES = 2;

/** Not at once: what has taken one, and what follows that, needs the processor now. */
const REFILL_AFTER_MS = 100;

/** A spare's arguments: the words that the process list shows once it has a role take the place of these. */
export const SPARE_ARGV: readonly string[] = ['berth-helper', 'spare', ' '.repeat(80)];

/**
 * Helpers that wait for a role (native/helper/spare.c), from the first that is asked for. They end with this process. One
 * that has ended before, killed for want of memory perhaps, is only missing.
 */
export class SpareHelpers {
  private readonly waiting: StartedHelper[] = [];
  private refilling: NodeJS.Timeout | undefined;

  constructor(private readonly make: () => Promise<StartedHelper>) {}

  /** Gives one its role and descriptors, of which it gets copies; undefined when there is none. */
  take(role: string, name: string, fds: readonly number[]): StartedHelper | undefined {
    this.refilling ??= setTimeout(() => void this.refill(), REFILL_AFTER_MS).unref();
    for (let spare; (spare = this.waiting.shift()) !== undefined;) {
      try {
        addon().sendFds(spare.controlFd, Buffer.from(`${role}\0${name}\0`), fds);
        return spare;
      } catch {
        bury(spare);
      }
    }
    return undefined;
  }

  /** Whoever asks meanwhile starts its own; when none can be started, it is the one to say so. */
  private async refill(): Promise<void> {
    try {
      while (this.waiting.length < SPARES) this.waiting.push(await this.make());
    } catch {
      // There is no memory, or no process to be had.
    } finally {
      this.refilling = undefined;
    }
  }
}

function bury({ pidfd, controlFd }: StartedHelper): void {
  closeSync(controlFd);
  const stop = addon().watch(pidfd, () => {
    stop();
    addon().reap(pidfd);
    closeSync(pidfd);
  });
}
