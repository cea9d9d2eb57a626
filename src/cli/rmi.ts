import type { Command } from 'commander';
import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { each } from './each';
import { familiar } from './format/names';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] IMAGE…')
    .argument('<image...>', 'references, ids, or the first digits of ids')
    .option('-f, --force', 'remove all names of an image that is named by its id', false)
    .addHelpText('after', '\nExample: berth rmi alpine:3.21')
    .action(async (images: string[], { force }: { force: boolean }) => {
      await each(images, async image => {
        const { untagged, deleted } = await daemon().ask(BerthService.removeImage, { image, force });
        return [
          ...untagged.map(reference => `Untagged: ${familiar(reference)}\n`),
          ...deleted.map(id => `Deleted: ${id}\n`),
        ].join('');
      });
    });
}
