import type { Command } from 'commander';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { confirm } from './confirm';
import { complain } from './each';
import { humanSize } from './format/size';
import { print } from './output';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-f, --force', 'do not ask', false)
    .option('-a, --all', 'also those that somebody gave a name', false)
    .addHelpText('after', '\nExample: berth volume prune -f')
    .action(async ({ all, force }: { all: boolean; force: boolean }) => {
      await confirm(force, `This removes all volumes that no container has${all ? '' : ' and nobody gave a name'}.`);
      await print(`Total reclaimed space: ${humanSize(await pruneVolumes(daemon(), all))}\n`);
    });
}

/**
 * Removes volumes that no container has, and prints which; the bytes that were freed. A name says that the content is
 * wanted, also while no container has it: those with names go only where `all` asks for it.
 */
export async function pruneVolumes(daemon: Daemon, all: boolean): Promise<bigint> {
  const { volumes } = await daemon.ask(ContainersService.listVolumes, { sizes: false });
  const unused = volumes.filter(({ containers }) => containers.length === 0);
  const some = unused.filter(({ anonymous }) => all || anonymous);
  let freed = 0n;
  for (const { name } of some) {
    try {
      const { freedBytes } = await daemon.ask(ContainersService.removeVolume, { name });
      freed += freedBytes;
      await print(`Deleted volume: ${name}\n`);
    } catch (error) {
      complain(error); // a container has it by now
    }
  }
  const kept = unused.length - some.length;
  if (kept > 0)
    await print(`Unused volumes with names that are kept: ${kept}; berth volume prune -a removes them, too\n`);
  return freed;
}
