import type { Command } from 'commander';
import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { each } from './each';
import { parseSeconds } from './parse/numbers';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] CONTAINER…')
    .argument('<container...>', 'names, ids, or the first digits of ids')
    .option('-t, --time <seconds>', 'how long it may take until it is killed (default: 10)', text =>
      parseSeconds('-t', text),
    )
    .addHelpText('after', '\nExample: berth stop -t 30 web')
    .action(async (containers: string[], { time }: { time?: bigint }) => {
      await each(containers, async container => {
        await daemon().ask(BerthService.stop, { container, timeoutSeconds: time });
        return `${container}\n`;
      });
    });
}
