import type { Command } from 'commander';
import { BuilderService } from '../cri/generated/berth/v1/build';
import type { Daemon } from './client';
import { humanSize } from './format/size';
import { print } from './output';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-a, --all', 'also the directories of cache mounts', false)
    .option('-f, --force', 'nothing is asked, with it or without', false)
    .addHelpText('after', '\nExample: berth builder prune')
    .action(async ({ all }: { all: boolean }) => {
      const { steps, freedBytes } = await daemon().ask(BuilderService.pruneBuildCache, { all });
      await print(`Forgotten results: ${steps}\nTotal reclaimed space: ${humanSize(freedBytes)}\n`);
    });
}
