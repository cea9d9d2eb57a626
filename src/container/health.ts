import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '../base/context';
import { messageOf } from '../base/errors';
import type { Container, Containers } from './containers';
import { execSync } from './exec-sync';

/** What is known of a container that says how to check its health. */
export interface Health {
  status: 'starting' | 'healthy' | 'unhealthy';
  /** Failures in a row. */
  failingStreak: number;
  /** The last checks, oldest first. */
  log: HealthResult[];
}

export interface HealthResult {
  startedAtNs: bigint;
  endedAtNs: bigint;
  /** 1: unhealthy; -1: it could not be run, or took too long. */
  exitCode: number;
  /** The beginning of it. */
  output: string;
}

interface Check {
  command: readonly string[];
  intervalMs: number;
  timeoutMs: number;
  startPeriodMs: number;
  startIntervalMs: number;
  retries: number;
}

/** As many results as docker keeps. */
const KEPT = 5;
const OUTPUT_BYTES = 4096;

/** setTimeout's limit: 24 days. It makes one millisecond of what is longer. */
const LONGEST_MS = 2_147_483_647;

/**
 * Checks the health of people's containers that say how, from their start to their end. What it finds is in memory: it is
 * as good as new after a start of the daemon.
 */
export class HealthChecks {
  private isOpen = true;

  constructor(private readonly containers: Containers) {
    containers.onStarted = container => this.follow(container);
  }

  /** Those that were running when the daemon came. */
  begin(): void {
    for (const container of this.containers.list()) if (container.record.state === 'running') this.follow(container);
  }

  close(): void {
    this.isOpen = false;
  }

  private follow(container: Container): void {
    const check = checkOf(this.containers, container);
    delete container.health;
    if (!check) return;
    container.health = { status: 'starting', failingStreak: 0, log: [] };
    this.run(container, check).catch((error: unknown) => {
      this.containers.log.error(`checks of a container's health have ended: ${messageOf(error)}`, {
        container: container.record.id,
      });
    });
  }

  private async run(container: Container, check: Check): Promise<void> {
    const { startedAtNs } = container.record;
    const isThisRun = () =>
      this.isOpen && container.record.state === 'running' && container.record.startedAtNs === startedAtNs;
    const isStarting = () =>
      container.health?.status === 'starting' && Date.now() < Number(startedAtNs / 1_000_000n) + check.startPeriodMs;
    for (;;) {
      await sleep(isStarting() ? check.startIntervalMs : check.intervalMs, undefined, { ref: false });
      if (!isThisRun()) return;
      // One that holds still can answer nothing.
      if (this.containers.cgroups.isPaused(container.record.cgroupPath)) continue;
      const wasStarting = isStarting();
      const result = await this.probe(container, check);
      if (!isThisRun()) return;
      note(container, check, result, wasStarting);
    }
  }

  private async probe(container: Container, { command, timeoutMs }: Check): Promise<HealthResult> {
    const startedAtNs = nowNs();
    try {
      const ctx = Context.of(this.containers.log);
      const { stdout, stderr, exitCode } = await execSync(this.containers, ctx, container, command, timeoutMs / 1000);
      const output = Buffer.concat([...stdout, ...stderr])
        .subarray(0, OUTPUT_BYTES)
        .toString('utf8');
      return { startedAtNs, endedAtNs: nowNs(), exitCode, output };
    } catch (error) {
      return { startedAtNs, endedAtNs: nowNs(), exitCode: -1, output: messageOf(error) };
    }
  }
}

function note(container: Container, { retries }: Check, result: HealthResult, wasStarting: boolean): void {
  const { failingStreak, status, log } = container.health ?? { failingStreak: 0, status: 'starting', log: [] };
  const isFine = result.exitCode === 0;
  const failures = isFine ? 0 : wasStarting ? failingStreak : failingStreak + 1;
  container.health = {
    status: isFine ? 'healthy' : failures >= retries ? 'unhealthy' : status,
    failingStreak: failures,
    log: [...log, result].slice(-KEPT),
  };
}

/** The container's own word, field by field over the image's; undefined where neither says how. */
export function checkOf(
  { images }: Pick<Containers, 'images'>,
  { record, options: { health } }: Container,
): Check | undefined {
  if (record.owner !== 'person' || health?.none) return undefined;
  const ofImage = images.find(record.imageId)?.config.healthcheck;
  const command = health?.command ? shell(health.command) : commandOf(ofImage?.test ?? []);
  if (!command) return undefined;
  const ms = (own: bigint | undefined, images: bigint | undefined, otherwise: number) =>
    Math.min(Number((own || images || 0n) / 1_000_000n) || otherwise, LONGEST_MS);
  return {
    command,
    intervalMs: ms(health?.intervalNs, ofImage?.intervalNs, 30_000),
    timeoutMs: ms(health?.timeoutNs, ofImage?.timeoutNs, 30_000),
    startPeriodMs: ms(health?.startPeriodNs, ofImage?.startPeriodNs, 0),
    startIntervalMs: ms(health?.startIntervalNs, ofImage?.startIntervalNs, 5000),
    retries: health?.retries || ofImage?.retries || 3,
  };
}

function commandOf([kind = '', ...rest]: readonly string[]): string[] | undefined {
  if (kind === 'CMD-SHELL') return shell(rest.join(' '));
  return kind === 'CMD' && rest.length > 0 ? rest : undefined;
}

function shell(command: string): string[] {
  return ['/bin/sh', '-c', command];
}

function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}
