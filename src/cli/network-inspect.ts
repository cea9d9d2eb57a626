import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { NetworksService } from '../cri/generated/berth/v1/network';
import type { Daemon } from './client';
import { complain } from './each';
import { networkJson } from './format/network';
import { print } from './output';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('NETWORK…')
    .argument('<network...>', 'names, as network ls has them')
    .addHelpText('after', '\nExample: berth network inspect berth')
    .action(async (names: string[]) => {
      const { networks } = await daemon().ask(NetworksService.listNetworks, {});
      const found = networks.filter(({ name }) => names.includes(name));
      await print(`${JSON.stringify(found.map(networkJson), undefined, 2)}\n`);
      for (const name of names)
        if (!found.some(network => network.name === name))
          complain(new BerthError('not_found', `no network is called ${JSON.stringify(name)}`));
    });
}
