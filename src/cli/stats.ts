import type { Command } from 'commander';
import { StatsService, type ContainerUsage } from '../cri/generated/berth/v1/stats';
import type { Daemon } from './client';
import { jsonLines } from './format/json';
import { binarySize } from './format/binary-size';
import { shortId } from './format/names';
import { Redrawn } from './format/redrawn';
import { humanSize } from './format/size';
import { table } from './format/table';
import { parseTemplate, type Template } from './format/template';
import { print } from './output';

type Format = 'table' | 'json' | Template;

interface Flags {
  all: boolean;
  stream: boolean;
  trunc: boolean;
  format: Format;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] [CONTAINER…]')
    .argument('[container...]', 'names, ids, or the first digits of ids (default: all that run)')
    .option('-a, --all', 'also those that do not run', false)
    .option('--no-stream', 'one reading, then end')
    .option('--no-trunc', 'whole ids')
    .option(
      '--format <format>',
      'table, json or a template: {{.Name}} {{.CPUPerc}} {{.MemUsage}}',
      parseFormat,
      'table',
    )
    .addHelpText('after', '\nExample: berth stats --no-stream')
    .action(async (containers: string[], { all, ...flags }: Flags) => {
      const replies = daemon().open(StatsService.watchUsage, { containers, all });
      const screen =
        process.stdout.isTTY && flags.stream && flags.format === 'table' ? new Redrawn(process.stdout) : undefined;
      let isFirst = true;
      for await (const { containers: usages } of replies) {
        const isSkipped = isFirst && !flags.stream && usages.some(isTooEarly);
        isFirst = false;
        if (isSkipped) continue;
        const text = show(usages, flags);
        if (screen) screen.draw(text.trimEnd().split('\n'));
        else await print(text);
        if (!flags.stream) break;
      }
    });
}

function parseFormat(text: string): Format {
  if (text === 'table' || text === 'json') return text;
  return parseTemplate(text, FIELDS);
}

/** The first reading of a container tells no rate yet; the next one comes within a second, perhaps with other containers. */
function isTooEarly({ running, cpuCores }: ContainerUsage): boolean {
  return running && cpuCores === undefined;
}

function show(usages: readonly ContainerUsage[], { format, trunc }: Omit<Flags, 'all'>): string {
  const rows = usages.map(usage => fieldsOf(usage, trunc));
  if (format === 'json') return jsonLines(rows);
  if (format !== 'table') return rows.map(format).join('');
  return table(
    ['CONTAINER ID', 'NAME', 'CPU %', 'MEM USAGE / LIMIT', 'MEM %', 'NET I/O', 'BLOCK I/O', 'PIDS'],
    rows.map(row => [row.ID, row.Name, row.CPUPerc, row.MemUsage, row.MemPerc, row.NetIO, row.BlockIO, row.PIDs]),
  );
}

/** docker's names of the columns, and the writable layer's size. */
const FIELDS = [
  'Container',
  'ID',
  'Name',
  'CPUPerc',
  'MemUsage',
  'MemPerc',
  'NetIO',
  'BlockIO',
  'PIDs',
  'DiskUsage',
] as const;

type Row = Record<(typeof FIELDS)[number], string>;

/** What is not known. */
const UNKNOWN = '--';

function fieldsOf(usage: ContainerUsage, trunc: boolean): Row {
  const id = trunc ? shortId(usage.id) : usage.id;
  const { memoryBytes, memoryLimitBytes, cpuCores } = usage;
  return {
    Container: id,
    ID: id,
    Name: usage.pod === '' ? usage.name : `${usage.pod}/${usage.name}`,
    CPUPerc: cpuCores === undefined ? UNKNOWN : percent(cpuCores),
    MemUsage: pair(memoryBytes, memoryLimitBytes, binarySize),
    MemPerc: memoryBytes && memoryLimitBytes ? percent(Number(memoryBytes) / Number(memoryLimitBytes)) : UNKNOWN,
    NetIO: pair(usage.receivedBytes, usage.sentBytes, humanSize),
    BlockIO: pair(usage.readBytes, usage.writtenBytes, humanSize),
    PIDs: usage.tasks === undefined ? UNKNOWN : String(usage.tasks),
    DiskUsage: usage.diskBytes === undefined ? UNKNOWN : humanSize(usage.diskBytes),
  };
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)}%`;
}

function pair(first: bigint | undefined, second: bigint | undefined, format: (bytes: bigint) => string): string {
  return [first, second].map(bytes => (bytes === undefined ? UNKNOWN : format(bytes))).join(' / ');
}
