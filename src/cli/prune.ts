import type { Command } from 'commander';
import { BerthService, type PruneImagesResponse } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { confirm } from './confirm';
import { familiar } from './format/names';
import { humanSize } from './format/size';
import { print } from './output';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-a, --all', "also those that have a name; the kubelet's, too, until it pulls them again", false)
    .option('-f, --force', 'do not ask', false)
    .addHelpText('after', '\nExample: berth image prune -f')
    .action(async ({ all, force }: { all: boolean; force: boolean }) => {
      await confirm(force, `This removes all images ${all ? '' : 'without a name '}that no container uses.`);
      const freed = await pruneImages(await daemon().ask(BerthService.pruneImages, { all }));
      await print(`Total reclaimed space: ${humanSize(freed)}\n`);
    });
}

/** Prints what was removed; the bytes that were freed. */
export async function pruneImages({ untagged, deleted, freedBytes }: PruneImagesResponse): Promise<bigint> {
  const lines = [...untagged.map(name => `Untagged: ${familiar(name)}\n`), ...deleted.map(id => `Deleted: ${id}\n`)];
  await print(lines.join(''));
  return freedBytes;
}
