import type { Command } from 'commander';
import { ContainersService, type PodEntry } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { humanAge, nowNs, timestamp } from './format/age';
import { listFormat, listing, type ListFormat } from './format/listing';
import { shortId } from './format/names';
import { print } from './output';

interface Flags {
  all: boolean;
  quiet: boolean;
  trunc: boolean;
  name: string;
  namespace: string;
  format: ListFormat;
}

const HEADERS = {
  ID: 'POD ID',
  Created: 'CREATED',
  State: 'STATE',
  Name: 'NAME',
  Namespace: 'NAMESPACE',
  Attempt: 'ATTEMPT',
  Runtime: 'RUNTIME',
  Containers: 'CONTAINERS',
  IPs: 'IPS',
  Labels: 'LABELS',
};
const formatOf = listFormat(HEADERS);

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-a, --all', "also those that people's containers are", false)
    .option('-q, --quiet', 'only the ids', false)
    .option('--no-trunc', 'whole ids')
    .option('--name <text>', 'only those whose name has this in it', '')
    .option('--namespace <name>', 'only those of this namespace', '')
    .option('--format <format>', 'table, json or a template: {{.Namespace}}/{{.Name}}', formatOf, formatOf('table'))
    .addHelpText('after', '\nExample: berth pods --namespace kube-system')
    .action(async (flags: Flags) => {
      const { pods } = await daemon().ask(ContainersService.listPods, {});
      const found = pods.filter(pod => isMeant(pod, flags));
      if (flags.quiet) return await print(found.map(({ id }) => `${flags.trunc ? shortId(id) : id}\n`).join(''));
      const now = nowNs();
      const columns = ['ID', 'Created', 'State', 'Name', 'Namespace', 'Attempt', 'Containers', 'IPs'];
      await print(
        listing(
          flags.format,
          HEADERS,
          columns,
          found.map(pod => row(pod, flags.trunc, now)),
        ),
      );
    });
}

function isMeant({ ofPerson, name, namespace }: PodEntry, flags: Flags): boolean {
  return (
    (flags.all || !ofPerson) && name.includes(flags.name) && (flags.namespace === '' || namespace === flags.namespace)
  );
}

function row(pod: PodEntry, trunc: boolean, now: bigint) {
  const { id, createdAtNs, ready, name, namespace, attempt, runtimeHandler, containers, ips, labels, ofPerson } = pod;
  const fields = {
    ID: trunc ? shortId(id) : id,
    Created: humanAge(createdAtNs, now),
    State: ready ? 'Ready' : 'NotReady',
    Name: name,
    Namespace: namespace,
    Attempt: String(attempt),
    Runtime: runtimeHandler || 'berth',
    Containers: String(containers),
    IPs: ips.join(','),
    Labels: Object.entries(labels)
      .map(([key, value]) => `${key}=${value}`)
      .join(','),
  };
  return { fields, json: { labels, ips, ready, ofPerson, createdAt: timestamp(createdAtNs) } };
}
