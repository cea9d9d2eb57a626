import type { Command } from 'commander';
import { BerthService, OutputStream, type LogEntry, type LogsResponse } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { followedLogs } from './followed-logs';
import { nowNs, timestamp } from './format/age';
import { write } from './output';
import { parseTail } from './parse/numbers';
import { parseSince } from './parse/since';

interface Flags {
  follow: boolean;
  tail?: bigint;
  timestamps: boolean;
  since: bigint;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] CONTAINER')
    .argument('<container>', 'a name, an id, or the first digits of one')
    .option('-f, --follow', 'go on until the container has exited', false)
    .option('-n, --tail <lines>', 'only the last lines, or all (default: all)', parseTail)
    .option('-t, --timestamps', 'put the time before each line', false)
    .option(
      '--since <time>',
      'only from this time on: 10m, 2026-01-31T08:00:00Z',
      text => parseSince(text, nowNs()),
      0n,
    )
    .addHelpText('after', '\nExample: berth logs -f --tail 20 web')
    .action(async (container: string, { follow, tail, timestamps, since }: Flags) => {
      const request = { container, follow, tail, sinceNs: since };
      const replies = follow ? followedLogs(daemon(), request) : daemon().open(BerthService.logs, request);
      await copyLogs(replies, timestamps);
    });
}

/** Writes stdout to stdout and stderr to stderr, byte for byte, as fast as they are read. */
export async function copyLogs(replies: AsyncIterable<LogsResponse>, timestamps: boolean): Promise<void> {
  const stamp = timestamps ? new Stamps() : undefined;
  for await (const { entries } of replies) {
    for (const { stream, data } of joined(entries, stamp)) {
      await write(stream === OutputStream.STDERR ? process.stderr : process.stdout, data);
    }
  }
}

interface Piece {
  stream: OutputStream;
  data: Buffer;
}

/** Entries side by side on one stream are one write: a write is a system call, and a line may be short. */
function joined(entries: readonly LogEntry[], stamps: Stamps | undefined): Piece[] {
  const runs: { stream: OutputStream; parts: Buffer[] }[] = [];
  for (const entry of entries) {
    const data = stamps ? stamps.before(entry) : entry.data;
    const last = runs.at(-1);
    if (last?.stream === entry.stream) last.parts.push(data);
    else runs.push({ stream: entry.stream, parts: [data] });
  }
  return runs.map(({ stream, parts }) => ({ stream, data: Buffer.concat(parts) }));
}

/** Puts the time before the first entry of each line; an entry that goes on with a line has none. */
class Stamps {
  private readonly midLine = new Set<OutputStream>();

  before({ stream, timeNs, data }: LogEntry): Buffer {
    const begins = !this.midLine.has(stream);
    if (data.at(-1) === 0x0a) this.midLine.delete(stream);
    else this.midLine.add(stream);
    return begins ? Buffer.concat([Buffer.from(`${timestamp(timeNs)} `), data]) : data;
  }
}
