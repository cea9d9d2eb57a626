import type { Command } from 'commander';
import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { each } from './each';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('CONTAINER…')
    .argument('<container...>', 'names, ids, or the first digits of ids')
    .addHelpText('after', '\nExample: berth wait job && berth logs job')
    .action(async (containers: string[]) => {
      await each(containers, async container => {
        const { exitCode } = await daemon().ask(BerthService.wait, { container });
        return `${exitCode}\n`;
      });
    });
}
