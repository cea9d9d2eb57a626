import type { Command } from 'commander';
import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { jsonLines, parseFormat, type Format } from './format/json';
import { humanSize } from './format/size';
import { table } from './format/table';
import { print } from './output';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('--format <format>', 'table or json (default: table)', parseFormat, 'table')
    .addHelpText('after', '\nExample: berth system df')
    .action(async ({ format }: { format: Format }) => {
      const usage = await daemon().ask(BerthService.imageUsage, {});
      const { images, usedBytes, inodes, unusedBytes } = usage;
      if (format === 'json') return await print(jsonLines([usage]));
      const row = ['Images', String(images), humanSize(usedBytes), String(inodes), humanSize(unusedBytes)];
      await print(table(['TYPE', 'TOTAL', 'SIZE', 'INODES', 'RECLAIMABLE'], [row]));
    });
}
