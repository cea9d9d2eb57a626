import type { Command } from 'commander';
import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { each } from './each';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] CONTAINER…')
    .argument('<container...>', 'names, ids, or the first digits of ids')
    .option('-s, --signal <signal>', 'its name or number (default: KILL)', 'KILL')
    .addHelpText('after', '\nExample: berth kill -s HUP web')
    .action(async (containers: string[], { signal }: { signal: string }) => {
      await each(containers, async container => {
        await daemon().ask(BerthService.kill, { container, signal });
        return `${container}\n`;
      });
    });
}
