import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { hasLabel } from '../base/labels';
import { ContainersService, type Volume } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { humanAge, nowNs, timestamp } from './format/age';
import { listFormat, listing, type ListFormat } from './format/listing';
import { print } from './output';

interface Flags {
  quiet: boolean;
  filter: ((volume: Volume) => boolean)[];
  format: ListFormat;
}

const HEADERS = {
  Name: 'VOLUME NAME',
  Created: 'CREATED',
  Containers: 'CONTAINERS',
  Mountpoint: 'MOUNTPOINT',
  Labels: 'LABELS',
};
const formatOf = listFormat(HEADERS);

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-q, --quiet', 'only the names', false)
    .option('-f, --filter <filter>', 'dangling=true, name=PART, label=KEY[=VALUE]', collectFilter, [])
    .option('--format <format>', 'table, json or a template: {{.Name}}', formatOf, formatOf('table'))
    .addHelpText('after', '\nExample: berth volume ls --filter dangling=true')
    .action(async ({ quiet, filter, format }: Flags) => {
      const { volumes } = await daemon().ask(ContainersService.listVolumes, { sizes: false });
      const found = volumes.filter(volume => filter.every(passes => passes(volume)));
      if (quiet) return await print(found.map(({ name }) => `${name}\n`).join(''));
      const now = nowNs();
      await print(
        listing(
          format,
          HEADERS,
          ['Name', 'Created', 'Containers'],
          found.map(volume => row(volume, now)),
        ),
      );
    });
}

function row({ name, path, createdAtNs, labels, containers }: Volume, now: bigint) {
  const fields = {
    Name: name,
    Created: humanAge(createdAtNs, now),
    Containers: String(containers.length),
    Mountpoint: path,
    Labels: Object.entries(labels)
      .map(([key, value]) => `${key}=${value}`)
      .join(','),
  };
  return { fields, json: { labels, containers, createdAt: timestamp(createdAtNs) } };
}

function collectFilter(text: string, before: readonly Flags['filter'][number][]): Flags['filter'] {
  const [, key = '', value = ''] = /^(\w+)=(.*)$/.exec(text) ?? [];
  const isYes = value === 'true' || value === '1';
  switch (key) {
    case 'dangling':
      return [...before, ({ containers }) => (containers.length === 0) === isYes];
    case 'name':
      return [...before, ({ name }) => name.includes(value)];
    case 'label':
      return [...before, ({ labels }) => hasLabel(labels, value)];
    default:
      throw new BerthError('invalid_argument', `--filter ${text} is not known`, {
        hint: 'filters look like dangling=true; there are dangling, name and label',
      });
  }
}
