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
    .option('-a, --all', 'changes nothing: all have names', false)
    .addHelpText('after', '\nExample: berth volume prune -f')
    .action(async ({ force }: { force: boolean }) => {
      await confirm(force, 'This removes all volumes that no container has.');
      await print(`Total reclaimed space: ${humanSize(await pruneVolumes(daemon()))}\n`);
    });
}

/** Removes volumes that no container has, and prints which; the bytes that were freed. */
export async function pruneVolumes(daemon: Daemon): Promise<bigint> {
  const { volumes } = await daemon.ask(ContainersService.listVolumes, { sizes: false });
  let freed = 0n;
  for (const { name } of volumes.filter(({ containers }) => containers.length === 0)) {
    try {
      const { freedBytes } = await daemon.ask(ContainersService.removeVolume, { name });
      freed += freedBytes;
      await print(`Deleted volume: ${name}\n`);
    } catch (error) {
      complain(error); // a container has it by now
    }
  }
  return freed;
}
