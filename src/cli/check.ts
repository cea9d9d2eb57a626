import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { BerthService, type CheckFinding, type CheckSummary } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { jsonLines, parseFormat, type Format } from './format/json';
import { familiar } from './format/names';
import { printable } from './format/printable';
import { humanSize } from './format/size';
import { print } from './output';

interface Flags {
  repair: boolean;
  quiet: boolean;
  format: Format;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('--repair', 'fetch what is damaged or missing again, and remove what nobody needs', false)
    .option('-q, --quiet', 'no progress', false)
    .option('--format <format>', 'table or json, a finding a line (default: table)', parseFormat, 'table')
    .addHelpText(
      'after',
      '\nThe exit code is 0 when all is sound or was repaired, 1 when not, 2 when it could not be seen.' +
        '\nExample: berth check --repair',
    )
    .action(async (flags: Flags) => {
      const { findings, repaired } = await check(daemon(), flags);
      if (findings > repaired) process.exitCode = 1;
    });
}

async function check(daemon: Daemon, { repair, quiet, format }: Flags): Promise<CheckSummary> {
  const bar = !quiet && process.stderr.isTTY;
  let end: CheckSummary | undefined;
  for await (const { progress, finding, summary } of daemon.open(BerthService.checkImages, { repair })) {
    if (progress && bar) process.stderr.write(`\r\x1b[K${progress.done} of ${progress.total} looked at`);
    if (!progress && bar) process.stderr.write('\r\x1b[K');
    if (finding) await print(format === 'json' ? jsonLines([finding]) : lineOf(finding));
    end = summary ?? end;
  }
  if (!end) throw new BerthError('internal', 'the daemon ended the check without saying what it has seen');
  if (format === 'table') await print(sentenceFor(end, repair));
  return end;
}

/** `layer-damaged sha256-…: 2 of its objects differ (app:1): repaired` */
function lineOf({ kind, subject, detail, images, repair, repairError }: CheckFinding): string {
  const touched = images.length === 0 ? '' : ` (${images.map(familiar).join(', ')})`;
  const outcome = { done: ': repaired', failed: `: not repaired: ${repairError}` }[repair] ?? '';
  return `${printable(`${kind} ${subject}: ${detail}${touched}${outcome}`)}\n`;
}

function sentenceFor({ layers, blobs, findings, repaired, usedBytes }: CheckSummary, repair: boolean): string {
  const seen = `${layers} layers and ${blobs} blobs, ${humanSize(usedBytes)} on the disk`;
  if (findings === 0n) return `${seen}: all is sound\n`;
  const left = findings - repaired;
  const next = left > 0n && !repair ? '; repair it with: berth check --repair' : '';
  return `${seen}: ${findings} findings${repaired > 0n ? `, ${repaired} repaired` : ''}${next}\n`;
}
