import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { NetworksService } from '../cri/generated/berth/v1/network';
import type { Daemon } from './client';
import { containerPort, hostAddress } from './format/ports';
import { print } from './output';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('CONTAINER [PORT[/PROTOCOL]]')
    .argument('<container>', 'a name, an id, or the first digits of one')
    .argument('[port]', "the container's, such as 80 or 53/udp; without it, all")
    .addHelpText('after', '\nExample: berth port web 80')
    .action(async (container: string, port: string | undefined) => {
      const { ports } = await daemon().ask(NetworksService.listPorts, { container });
      if (port === undefined) {
        await print(ports.map(one => `${containerPort(one)} -> ${hostAddress(one)}\n`).join(''));
        return;
      }
      const wanted = port.includes('/') ? port : `${port}/tcp`;
      const found = ports.filter(one => containerPort(one) === wanted);
      if (found.length === 0)
        throw new BerthError('not_found', `container ${container} has not published port ${wanted}`);
      await print(found.map(one => `${hostAddress(one)}\n`).join(''));
    });
}
