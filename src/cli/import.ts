import { resolve } from 'node:path';
import type { Command } from 'commander';
import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { print } from './output';
import { showPull } from './pull';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] DIRECTORY REFERENCE')
    .argument('<directory>', 'the directory that holds index.json')
    .argument('<reference>', 'the name that the image gets')
    .option('-q, --quiet', 'no progress', false)
    .addHelpText('after', '\nExample: berth import ./app-image app:1.2')
    .action(async (directory: string, reference: string, { quiet }: { quiet: boolean }) => {
      const request = { path: resolve(directory), reference };
      const done = await showPull(daemon().open(BerthService.import, request), quiet);
      await print(`${done.imageId}\n`);
    });
}
