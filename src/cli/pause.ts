import type { Command } from 'commander';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { each } from './each';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('CONTAINER…')
    .argument('<container...>', 'names, ids, or the first digits of ids')
    .addHelpText('after', '\nExample: berth pause web')
    .action(async (containers: string[]) => {
      await each(containers, async container => {
        await daemon().ask(ContainersService.pause, { container });
        return `${container}\n`;
      });
    });
}
