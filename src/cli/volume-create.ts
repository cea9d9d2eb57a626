import type { Command } from 'commander';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { print } from './output';
import { collect } from './parse/collect';
import { parseLabels } from './parse/labels';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] [NAME]')
    .argument('[name]', 'what it is to be called (default: made up)', '')
    .option('-l, --label <key[=value]>', 'set a label', collect, [])
    .addHelpText('after', '\nExample: berth volume create sites && berth run -v sites:/srv nginx')
    .action(async (name: string, { label }: { label: string[] }) => {
      const volume = await daemon().ask(ContainersService.createVolume, { name, labels: parseLabels(label) });
      await print(`${volume.name}\n`);
    });
}
