import { Context } from '../base/context';
import { messageOf } from '../base/errors';
import type { Container, Containers } from './containers';
import { relaunchContainer } from './relaunch';
import { startContainer } from './start';

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
  private readonly delays = new Map<Container, number>();
  private isOpen = false;

  constructor(private readonly containers: Containers) {
    containers.onExited = container => this.exited(container);
  }

  /** Once all that was there is restored. */
  begin(): void {
    this.isOpen = true;
    for (const container of this.containers.list()) {
      if (container.record.state === 'exited') void this.returnAfterStart(container);
    }
  }

  /** Nothing is started any more. */
  close(): void {
    this.isOpen = false;
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
  }

  private async returnAfterStart(container: Container): Promise<void> {
    const { name } = policyOf(container);
    const { isStopped = false, exitCode } = container.record;
    const returns =
      name === 'always' ||
      (name === 'unless-stopped' && !isStopped) ||
      (name === 'on-failure' && !isStopped && exitCode !== 0);
    if (!returns) return;
    // `always` means after a stop, too, once the daemon starts anew.
    if (isStopped) await this.containers.update(container, { isStopped: false });
    this.schedule(container);
  }

  private exited(container: Container): void {
    const { record } = container;
    if (!this.isOpen || record.isStopped) return;
    const { name, maximumRetries } = policyOf(container);
    const wasNeverStarted = record.startedAtNs === 0n;
    // A command that cannot be started at all will not be the next time either; docker says so at once, too.
    if (wasNeverStarted && (record.restarts ?? 0) === 0) return;
    const ranMs = Number(record.finishedAtNs - record.startedAtNs) / 1e6;
    if (ranMs > STEADY_MS) this.delays.delete(container);
    const mayFail = maximumRetries === 0 || (record.restarts ?? 0) < maximumRetries;
    if (name === 'always' || name === 'unless-stopped' || (name === 'on-failure' && record.exitCode !== 0 && mayFail)) {
      this.schedule(container);
    }
  }

  private schedule(container: Container): void {
    const delayMs = this.delays.get(container) ?? FIRST_DELAY_MS;
    this.delays.set(container, Math.min(2 * delayMs, LONGEST_DELAY_MS));
    clearTimeout(this.timers.get(container));
    this.timers.set(container, setTimeout(() => void this.restart(container), delayMs).unref());
    container.isRestarting = true;
  }

  private async restart(container: Container): Promise<void> {
    const { containers } = this;
    this.timers.delete(container);
    try {
      // A person may have started, stopped or removed it meanwhile.
      if (container.record.state !== 'exited' || container.record.isStopped || !this.isOpen) return;
      if (containers.find(container.record.id) !== container) return;
      await containers.update(container, { restarts: (container.record.restarts ?? 0) + 1 });
      const ctx = Context.of(containers.log);
      await relaunchContainer(containers, container);
      await startContainer(containers, ctx, container);
    } catch (error) {
      containers.log.warn(`could not start a container again: ${messageOf(error)}`, { container: container.record.id });
      const isLeft = container.record.state === 'exited' && !container.record.isStopped && !this.timers.has(container);
      if (this.isOpen && isLeft && containers.find(container.record.id) === container) this.schedule(container);
    } finally {
      if (!this.timers.has(container)) delete container.isRestarting;
    }
  }
}

function policyOf({ options }: Container): { name: string; maximumRetries: number } {
  return options.restart ?? { name: 'no', maximumRetries: 0 };
}
