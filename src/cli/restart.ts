import type { Command } from 'commander';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { each } from './each';
import { parseSeconds } from './parse/numbers';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] CONTAINER…')
    .argument('<container...>', 'names, ids, or the first digits of ids')
    .option('-t, --time <seconds>', 'how long to wait for an orderly end before the kill (default: 10)', text =>
      parseSeconds('-t', text),
    )
    .addHelpText('after', '\nExample: berth restart -t 30 web')
    .action(async (containers: string[], { time }: { time?: bigint }) => {
      await each(containers, async container => {
        await daemon().ask(ContainersService.restart, { container, timeoutSeconds: time });
        return `${container}\n`;
      });
    });
}
