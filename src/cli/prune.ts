import type { Command } from 'commander';
import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { familiar } from './format/names';
import { humanSize } from './format/size';
import { print } from './output';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-a, --all', "also those that have a name; the kubelet's, too, until it pulls them again", false)
    .addHelpText('after', '\nExample: berth image prune')
    .action(async ({ all }: { all: boolean }) => {
      const { untagged, deleted, freedBytes } = await daemon().ask(BerthService.pruneImages, { all });
      const lines = [...untagged.map(name => `Untagged: ${familiar(name)}`), ...deleted.map(id => `Deleted: ${id}`)];
      await print([...lines, `Total reclaimed space: ${humanSize(freedBytes)}`, ''].join('\n'));
    });
}
