import type { Command } from 'commander';
import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('IMAGE NAME[:TAG]')
    .argument('<image>', 'a reference, an id, or the first digits of one')
    .argument('<name>', 'the name that it gets, too; without a tag, latest')
    .addHelpText('after', '\nExample: berth tag app:1.2 registry.example/app:1.2')
    .action(async (image: string, reference: string) => {
      await daemon().ask(BerthService.tagImage, { image, reference });
    });
}
