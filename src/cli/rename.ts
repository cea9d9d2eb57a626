import type { Command } from 'commander';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('CONTAINER NEW_NAME')
    .argument('<container>', 'a name, an id, or the first digits of one')
    .argument('<name>', 'what it is to be called')
    .addHelpText('after', '\nExample: berth rename web old-web')
    .action(async (container: string, name: string) => {
      await daemon().ask(ContainersService.rename, { container, name });
    });
}
