import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { confirm } from './confirm';
import { humanSize } from './format/size';
import { print } from './output';
import { pruneImages } from './prune';
import { collectPruneFilter, pruneContainers, type PruneFilter } from './prune-containers';
import { pruneVolumes } from './prune-volumes';

interface Flags {
  all: boolean;
  force: boolean;
  volumes: boolean;
  filter: PruneFilter[];
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-a, --all', 'also images that have a name and that no container uses', false)
    .option('-f, --force', 'do not ask', false)
    .option('--volumes', 'also volumes that no container has and nobody gave a name', false)
    .option(
      '--filter <filter>',
      'until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]; of containers',
      collectPruneFilter,
      [],
    )
    .addHelpText('after', '\nExample: berth system prune -f')
    .action(async (flags: Flags) => {
      refuseFilteredVolumes(flags);
      await confirm(flags.force, warning(flags));
      let freed = await pruneContainers(daemon(), flags.filter);
      if (flags.volumes) freed += await pruneVolumes(daemon(), false);
      freed += await pruneImages(await daemon().ask(BerthService.pruneImages, { all: flags.all }));
      await print(`Total reclaimed space: ${humanSize(freed)}\n`);
    });
}

/** Filters choose containers; who gives one does not mean all volumes. */
function refuseFilteredVolumes({ filter, volumes }: Flags): void {
  if (filter.length === 0 || !volumes) return;
  throw new BerthError('invalid_argument', '--filter does not choose among volumes, and excludes --volumes', {
    hint: 'prune volumes on their own: berth volume prune',
  });
}

function warning({ all, volumes }: Flags): string {
  const images = all ? 'all images that no container uses' : 'images without a name that no container uses';
  return `This removes all of people's containers that do not run${volumes ? ', volumes that no container has and nobody gave a name,' : ''} and ${images}.`;
}
