import type { Command } from 'commander';
import {
  BerthService,
  RunningPull_Operation as Operation,
  RunningPull_Outcome as Outcome,
  type PullsResponse,
  type RunningPull,
} from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { timestamp } from './format/age';
import { jsonLines, parseFormat, type Format } from './format/json';
import { familiar } from './format/names';
import { printable } from './format/printable';
import { humanRate, humanTime } from './format/rate';
import { Redrawn } from './format/redrawn';
import { humanSize } from './format/size';
import { table } from './format/table';
import { print } from './output';

interface Flags {
  watch: boolean;
  format: Format;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-w, --watch', 'go on until interrupted', false)
    .option('--format <format>', 'table or json (default: table)', parseFormat, 'table')
    .addHelpText('after', '\nExample: berth pulls --watch')
    .action(async ({ watch, format }: Flags) => {
      if (!watch) await print(show(await daemon().ask(BerthService.pulls, {}), format));
      else await follow(daemon().open(BerthService.watchPulls, {}), format);
    });
}

function show({ pulls }: PullsResponse, format: Format): string {
  return format === 'json' ? jsonLines(pulls.map(toJson)) : tableOf(pulls);
}

/** On a terminal the table stays where it is; elsewhere, and as JSON, each pull has a line whenever it has changed. */
async function follow(replies: AsyncIterable<PullsResponse>, format: Format): Promise<void> {
  if (process.stdout.isTTY && format === 'table') {
    const screen = new Redrawn(process.stdout);
    for await (const { pulls } of replies) screen.draw(tableOf(pulls).trimEnd().split('\n'));
    return;
  }
  const last = new Map<string, string>();
  for await (const { pulls } of replies) {
    for (const pull of pulls) {
      const line = format === 'json' ? jsonLines([toJson(pull)]) : lineOf(pull);
      if (last.get(pull.id) !== line) await print(line);
      last.set(pull.id, line);
    }
    for (const id of last.keys()) if (!pulls.some(pull => pull.id === id)) last.delete(id);
  }
}

function tableOf(pulls: readonly RunningPull[]): string {
  return table(
    ['REFERENCE', 'FOR', 'LAYERS', 'PROGRESS', 'RATE', 'LEFT', 'STAGE'],
    pulls.map(pull => [
      familiar(pull.reference),
      whoOf(pull),
      layersOf(pull),
      progressOf(pull),
      pull.bytesPerSecond > 0n ? humanRate(pull.bytesPerSecond) : '',
      pull.remainingSeconds >= 0n && pull.outcome === Outcome.RUNNING ? humanTime(pull.remainingSeconds) : '',
      stageOf(pull),
    ]),
  );
}

function lineOf(pull: RunningPull): string {
  const parts = [familiar(pull.reference), whoOf(pull), progressOf(pull), stageOf(pull)];
  return `${printable(parts.filter(part => part !== '').join(' '))}\n`;
}

function whoOf({ askedBy }: RunningPull): string {
  return askedBy.map(who => (who === 'cri' ? 'kubelet' : who)).join(',');
}

/** Those that are here, of all. */
function layersOf({ layers }: RunningPull): string {
  if (layers.length === 0) return '';
  return `${layers.filter(({ phase }) => HERE.has(phase)).length}/${layers.length}`;
}

/** LayerProgress.Phase: DONE and PRESENT. */
const HERE: ReadonlySet<number> = new Set([3, 4]);

function progressOf({ doneBytes, totalBytes }: RunningPull): string {
  if (totalBytes === 0n) return '';
  return `${humanSize(doneBytes)}/${humanSize(totalBytes)} ${(100n * doneBytes) / totalBytes}%`;
}

/** The step without the name, which has a column of its own; or how it ended. */
function stageOf({ stage, reference, outcome, error }: RunningPull): string {
  if (outcome === Outcome.FAILED) return `failed: ${error}`;
  return outcomes[outcome] ?? stage.replace(` of ${reference}`, '').replace(` ${reference}`, '');
}

const outcomes: Readonly<Record<number, string>> = {
  [Outcome.SUCCEEDED]: 'done',
  [Outcome.CANCELLED]: 'cancelled',
};

const operations: Readonly<Record<number, string>> = {
  [Operation.PULL]: 'pull',
  [Operation.LOAD]: 'load',
  [Operation.IMPORT]: 'import',
};

const outcomeWords: Readonly<Record<number, string>> = {
  [Outcome.RUNNING]: 'running',
  [Outcome.SUCCEEDED]: 'succeeded',
  [Outcome.FAILED]: 'failed',
  [Outcome.CANCELLED]: 'cancelled',
};

const phases = ['waiting', 'downloading', 'unpacking', 'done', 'present'];

function toJson(pull: RunningPull): object {
  const { startedAtNs, endedAtNs, remainingSeconds, outcome, operation, layers, ...rest } = pull;
  return {
    ...rest,
    operation: operations[operation] ?? 'unknown',
    outcome: outcomeWords[outcome] ?? 'unknown',
    startedAt: timestamp(startedAtNs),
    endedAt: endedAtNs === 0n ? null : timestamp(endedAtNs),
    remainingSeconds: remainingSeconds < 0n ? null : remainingSeconds,
    layers: layers.map(layer => ({ ...layer, phase: phases[layer.phase] ?? 'unknown' })),
  };
}
