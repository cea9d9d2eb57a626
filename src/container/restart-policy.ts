import { Context } from '../base/context';
import { messageOf } from '../base/errors';
import type { Container, Containers } from './containers';
import { relaunchContainer } from './relaunch';
import { startContainer } from './start';
import { stopContainer } from './stop';

/** The first restart comes after so long, each further one after twice as long, as with docker. */
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 60_000;

/** One that has run for so long has not failed to start: its next restart is a first one. */
const STEADY_MS = 10_000;

/**
 * Starts people's containers again as they have asked for it (`--restart`), after their exits and after a start of the
 * daemon. One that a person has stopped stays so until a person starts it; `always` also until the daemon starts anew.
 */
export class RestartPolicies {
  private readonly timers = new Map<Container, NodeJS.Timeout>();
  private readonly delays = new WeakMap<Container, number>();
  private isOpen = false;

  constructor(private readonly containers: Containers) {
    containers.onExited = container => this.exited(container);
  }

  /** Once all that was there is restored. */
  begin(): void {
    this.isOpen = true;
    for (const container of this.containers.list()) {
      const { state, restarts = 0 } = container.record;
      if (state === 'exited') void this.returnAfterStart(container);
      // A policy of the last daemon made it ready, and that one ended before it could start it.
      if (state === 'created' && restarts > 0) this.undertake(container, () => this.start(container));
    }
  }

  /** Nothing is started any more. */
  close(): void {
    this.isOpen = false;
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
  }

  private async returnAfterStart(container: Container): Promise<void> {
    const { isStopped = false } = container.record;
    const isAlways = container.options.restart?.name === 'always';
    if (!asksForReturn(container) || (isStopped && !isAlways)) return;
    try {
      // `always` means after a stop, too, once the daemon starts anew.
      if (isStopped) await this.containers.update(container, { isStopped: false });
    } catch (error) {
      return this.tellFailure(container, error);
    }
    this.schedule(container);
  }

  private exited(container: Container): void {
    const { record } = container;
    if (!this.isOpen || record.isStopped || !asksForReturn(container)) return;
    const ranMs = Number(record.finishedAtNs - record.startedAtNs) / 1e6;
    if (ranMs > STEADY_MS) this.delays.delete(container);
    this.schedule(container);
  }

  private schedule(container: Container): void {
    const delayMs = this.delays.get(container) ?? FIRST_DELAY_MS;
    this.delays.set(container, Math.min(2 * delayMs, LONGEST_DELAY_MS));
    clearTimeout(this.timers.get(container));
    const begin = () => {
      this.timers.delete(container);
      this.undertake(container, () => this.restart(container));
    };
    this.timers.set(container, setTimeout(begin, delayMs).unref());
    container.isRestarting = true;
  }

  private undertake(container: Container, work: () => Promise<void>): void {
    const returning = this.attempt(container, work).finally(() => {
      if (container.returning === returning) delete container.returning;
    });
    container.returning = returning;
  }

  private async attempt(container: Container, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.tellFailure(container, error);
      const isLeft = container.record.state === 'exited' && !this.timers.has(container);
      if (isLeft && this.isWanted(container)) this.schedule(container);
    } finally {
      if (!this.timers.has(container)) delete container.isRestarting;
    }
  }

  private async restart(container: Container): Promise<void> {
    // A person may have started, stopped or removed it meanwhile.
    if (container.record.state !== 'exited' || !container.isRestarting || !this.isWanted(container)) return;
    await this.containers.update(container, { restarts: (container.record.restarts ?? 0) + 1 });
    await relaunchContainer(this.containers, container);
    await this.start(container);
  }

  /** Starts one that is ready, unless a person has stopped it meanwhile; who stops it later waits for this and ends it. */
  private async start(container: Container): Promise<void> {
    const ctx = Context.of(this.containers.log);
    if (this.isWanted(container)) await startContainer(this.containers, ctx, container);
    else if (container.record.isStopped) await stopContainer(this.containers, ctx, container, 0);
  }

  private isWanted(container: Container): boolean {
    const { id, isStopped } = container.record;
    return this.isOpen && !isStopped && this.containers.find(id) === container;
  }

  private tellFailure({ record }: Container, error: unknown): void {
    this.containers.log.warn(`could not start a container again: ${messageOf(error)}`, { container: record.id });
  }
}

/** Whether it is to run again after its last exit, as far as its policy goes. */
function asksForReturn({ record, options }: Container): boolean {
  const { name, maximumRetries } = options.restart ?? { name: 'no', maximumRetries: 0 };
  const { startedAtNs, exitCode, restarts = 0 } = record;
  // A command that cannot be started at all will not be the next time either; docker says so at once, too.
  if (startedAtNs === 0n && restarts === 0) return false;
  const mayFail = maximumRetries === 0 || restarts < maximumRetries;
  return name === 'always' || name === 'unless-stopped' || (name === 'on-failure' && exitCode !== 0 && mayFail);
}
