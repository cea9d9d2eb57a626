import type { Command } from 'commander';
import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { each } from './each';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] CONTAINER…')
    .argument('<container...>', 'names, ids, or the first digits of ids')
    .option('-f, --force', 'kill those that run', false)
    .option('-v, --volumes', 'changes nothing: volumes without a name always go, those with one stay', false)
    .addHelpText('after', '\nExample: berth rm -f web')
    .action(async (containers: string[], { force }: { force: boolean }) => {
      await each(containers, async container => {
        await daemon().ask(BerthService.remove, { container, force });
        return `${container}\n`;
      });
    });
}
