import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { StatsService, type Process } from '../cri/generated/berth/v1/stats';
import type { Daemon } from './client';
import { nowNs, timestamp } from './format/age';
import { jsonLines, parseFormat, type Format } from './format/json';
import { table } from './format/table';
import { print } from './output';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] CONTAINER')
    .argument('<container>', 'a name, an id, or its first digits')
    .option('--format <format>', 'table or json (default: table)', parseFormat, 'table')
    .addHelpText('after', '\nExample: berth top web')
    .action(async (container: string, { format }: { format: Format }) => {
      const { processes } = await daemon().ask(StatsService.top, { container });
      await print(format === 'json' ? jsonLines(processes.map(toJson)) : tableOf(processes));
    });
}

/** The columns of `ps -ef`, which docker's are. */
function tableOf(processes: readonly Process[]): string {
  const users = hostUsers();
  const now = nowNs();
  return table(
    ['UID', 'PID', 'PPID', 'C', 'STIME', 'TTY', 'TIME', 'CMD'],
    processes.map(process => [
      users.get(process.uid) ?? String(process.uid),
      String(process.pid),
      String(process.parentPid),
      utilization(process, now),
      startTime(process.startedAtNs, now),
      process.terminal || '?',
      clock(process.cpuNs),
      process.command.join(' '),
    ]),
  );
}

/** Percent of a CPU over its whole life. */
function utilization({ cpuNs, startedAtNs }: Process, now: bigint): string {
  const lived = now - startedAtNs;
  return lived <= 0n ? '0' : String((100n * cpuNs) / lived);
}

/** The time of day today, or else the day. */
function startTime(startedAtNs: bigint, now: bigint): string {
  const [started, today] = [startedAtNs, now].map(ns => new Date(Number(ns / 1_000_000n))) as [Date, Date];
  if (started.toDateString() === today.toDateString()) return started.toTimeString().slice(0, 5);
  return started.toDateString().slice(4, 10).replace(' ', '');
}

/** `00:01:02` */
function clock(ns: bigint): string {
  const seconds = ns / 1_000_000_000n;
  const parts = [seconds / 3600n, (seconds / 60n) % 60n, seconds % 60n];
  return parts.map(part => String(part).padStart(2, '0')).join(':');
}

/** Names of the host's users, as ps shows them: uids are the host's. */
function hostUsers(): Map<number, string> {
  try {
    const lines = readFileSync('/etc/passwd', 'utf8').split('\n');
    return new Map(lines.map(line => [Number(line.split(':')[2] ?? NaN), line.split(':')[0] ?? '']));
  } catch {
    return new Map();
  }
}

function toJson({ startedAtNs, ...rest }: Process): object {
  return { ...rest, startedAt: timestamp(startedAtNs) };
}
