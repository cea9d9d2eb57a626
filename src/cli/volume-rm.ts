import type { Command } from 'commander';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { each } from './each';
import { isNotFound } from './errors';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] VOLUME…')
    .argument('<volume...>', 'their names')
    .option('-f, --force', 'one that is not there is no error', false)
    .addHelpText('after', '\nExample: berth volume rm sites')
    .action(async (volumes: string[], { force }: { force: boolean }) => {
      await each(volumes, async name => {
        try {
          await daemon().ask(ContainersService.removeVolume, { name });
        } catch (error) {
          if (!force || !isNotFound(error)) throw error;
        }
        return `${name}\n`;
      });
    });
}
