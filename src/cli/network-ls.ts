import type { Command } from 'commander';
import { NetworksService, type Network } from '../cri/generated/berth/v1/network';
import type { Daemon } from './client';
import { listFormat, listing, type ListFormat } from './format/listing';
import { networkJson } from './format/network';
import { print } from './output';

const HEADERS = {
  Name: 'NAME',
  Driver: 'DRIVER',
  Scope: 'SCOPE',
  Bridge: 'BRIDGE',
  Subnets: 'SUBNETS',
  Containers: 'CONTAINERS',
  File: 'FILE',
};

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-q, --quiet', 'only the names', false)
    .option(
      '--format <format>',
      'table, json or a template: {{.Name}}',
      listFormat(HEADERS),
      listFormat(HEADERS)('table'),
    )
    .addHelpText('after', '\nExample: berth network ls')
    .action(async ({ quiet, format }: { quiet: boolean; format: ListFormat }) => {
      const { networks } = await daemon().ask(NetworksService.listNetworks, {});
      if (quiet) return print(networks.map(({ name }) => `${name}\n`).join(''));
      const rows = networks.map(network => ({ fields: fieldsOf(network), json: networkJson(network) }));
      return print(listing(format, HEADERS, ['Name', 'Driver', 'Bridge', 'Subnets', 'Containers'], rows));
    });
}

function fieldsOf({ name, plugins, bridge, subnets, members, file }: Network): Record<keyof typeof HEADERS, string> {
  return {
    Name: name,
    Driver: plugins.join(','),
    Scope: 'local',
    Bridge: bridge,
    Subnets: subnets.map(({ subnet }) => subnet).join(','),
    Containers: String(members.length),
    File: file,
  };
}
