import type { Command } from 'commander';
import { BerthService, ContainerState as State, type Container } from '../cri/generated/berth/v1/berth';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { humanAge, humanDuration, nowNs, secondsBetween, timestamp } from './format/age';
import { listFormat, listing, type ListFormat } from './format/listing';
import { containerPort, hostAddress } from './format/ports';
import { ellipsis, familiar, shortId } from './format/names';
import { humanSize } from './format/size';
import type { Fields } from './format/template';
import { print } from './output';
import { parseInteger } from './parse/numbers';
import { collectContainerFilter, listsAll, passes, type ContainerFilter } from './container-filter';

interface Flags {
  all: boolean;
  quiet: boolean;
  trunc: boolean;
  size: boolean;
  latest: boolean;
  last?: bigint;
  filter: ContainerFilter[];
  format: ListFormat;
}

/** What containers have written, and that with their image, by id. */
type Sizes = ReadonlyMap<string, { writableBytes: bigint; rootBytes: bigint }>;

const HEADERS = {
  ID: 'CONTAINER ID',
  Image: 'IMAGE',
  Command: 'COMMAND',
  RunningFor: 'CREATED',
  Status: 'STATUS',
  Names: 'NAMES',
  State: 'STATE',
  CreatedAt: 'CREATED AT',
  Size: 'SIZE',
  Labels: 'LABELS',
  Label: 'LABEL',
  Mounts: 'MOUNTS',
  Networks: 'NETWORKS',
  Ports: 'PORTS',
  Health: 'HEALTH',
  Pod: 'POD',
  Namespace: 'NAMESPACE',
};

const formatOf = listFormat(HEADERS);

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-a, --all', 'also those that do not run', false)
    .option('-q, --quiet', 'only the ids', false)
    .option('--no-trunc', 'whole ids and commands')
    .option('-s, --size', 'also how much they have written', false)
    .option('-n, --last <number>', 'the newest, so many, running or not', text => parseInteger('--last', text))
    .option('-l, --latest', 'the newest, running or not', false)
    .option(
      '-f, --filter <filter>',
      'id=, name=, label=KEY[=VALUE], status=, ancestor=IMAGE, exited=CODE, before=, since=, volume=, network=, health=, pod=',
      collectContainerFilter,
      [],
    )
    .option('--format <format>', 'table, json or a template: {{.ID}} {{.Names}}', formatOf, formatOf('table'))
    .addHelpText(
      'after',
      '\nExample: berth ps -a\n         berth ps -aq --filter status=exited\n' +
        "         berth ps --format 'table {{.Names}}\\t{{.Status}}'",
    )
    .action(async (flags: Flags) => {
      await print(await show(daemon(), flags));
    });
}

async function show(daemon: Daemon, flags: Flags): Promise<string> {
  const last = flags.latest ? 1n : flags.last;
  const all = flags.all || last !== undefined || listsAll(flags.filter);
  const { containers } = await daemon.ask(BerthService.listContainers, { all });
  const found = containers
    .filter(passes(flags.filter, containers))
    .slice(0, last === undefined ? undefined : Number(last));
  if (flags.quiet) return found.map(({ id }) => `${flags.trunc ? shortId(id) : id}\n`).join('');
  const sizes = flags.size ? await sizesOf(daemon, found) : new Map<string, never>();
  const now = nowNs();
  const rows = found.map(container => ({
    fields: fieldsOf(container, flags.trunc, sizes, now),
    json: toJson(container),
  }));
  // A column of nothing would take the width that names need.
  const hasPorts = found.some(({ ports }) => ports.length > 0);
  const columns = [
    'ID',
    'Image',
    'Command',
    'RunningFor',
    'Status',
    ...(hasPorts ? ['Ports'] : []),
    'Names',
    ...(flags.size ? ['Size'] : []),
  ];
  return listing(flags.format, HEADERS, columns, rows);
}

async function sizesOf(daemon: Daemon, containers: readonly Container[]): Promise<Sizes> {
  const { sizes } = await daemon.ask(ContainersService.sizes, { containers: containers.map(({ id }) => id) });
  return new Map(sizes.map(size => [size.id, size]));
}

function fieldsOf(container: Container, trunc: boolean, sizes: Sizes, now: bigint): Fields {
  const { id, command, labels, pod, ports } = container;
  const size = sizes.get(id);
  const line = command.join(' ');
  return {
    ID: trunc ? shortId(id) : id,
    Image: imageOf(container, trunc),
    Command: `"${trunc ? ellipsis(line, 20) : line}"`,
    RunningFor: humanAge(container.createdAtNs, now),
    Status: statusOf(container, now),
    Names: nameOf(container),
    State: states[container.state] ?? 'unknown',
    CreatedAt: timestamp(container.createdAtNs),
    Size: size ? `${humanSize(size.writableBytes)} (virtual ${humanSize(size.rootBytes)})` : '',
    Labels: Object.entries(labels)
      .map(([key, value]) => `${key}=${value}`)
      .sort()
      .join(','),
    Label: key => labels[key] ?? '',
    Mounts: container.mounts.join(','),
    Networks: container.network,
    Ports: ports.map(port => `${hostAddress(port)}->${containerPort(port)}`).join(', '),
    Health: container.health,
    Pod: pod?.name ?? '',
    Namespace: pod?.namespace ?? '',
  };
}

/** The kubelet asks for images by id or by digest; people know the name before it, or else the short id. */
function imageOf({ image }: Container, trunc: boolean): string {
  if (!trunc) return image;
  return image.startsWith('sha256:') ? shortId(image) : familiar(image.replace(/@sha256:.*/, ''));
}

/** `Up 5 minutes`, `Exited (0) 2 hours ago`, `Created`. */
export function statusOf(container: Container, now: bigint): string {
  const up = () => `Up ${humanDuration(secondsBetween(container.startedAtNs, now))}`;
  const ended = () => `(${container.exitCode}) ${humanAge(container.finishedAtNs, now)}`;
  switch (container.state) {
    case State.CONTAINER_STATE_RUNNING:
      return `${up()}${container.health === '' ? '' : ` (${container.health === 'starting' ? 'health: starting' : container.health})`}`;
    case State.CONTAINER_STATE_PAUSED:
      return `${up()} (Paused)`;
    case State.CONTAINER_STATE_RESTARTING:
      return `Restarting ${ended()}`;
    case State.CONTAINER_STATE_EXITED:
      return `Exited ${ended()}`;
    case State.CONTAINER_STATE_CREATED:
      return 'Created';
    default:
      return 'Unknown';
  }
}

/** A kubelet's container is called as other verbs take it: pod/name. */
export function nameOf({ name, pod }: Container): string {
  return pod ? `${pod.name}/${name}` : name;
}

export const states: Readonly<Record<number, string>> = {
  [State.CONTAINER_STATE_CREATED]: 'created',
  [State.CONTAINER_STATE_RUNNING]: 'running',
  [State.CONTAINER_STATE_PAUSED]: 'paused',
  [State.CONTAINER_STATE_RESTARTING]: 'restarting',
  [State.CONTAINER_STATE_EXITED]: 'exited',
};

function toJson(container: Container): object {
  const { createdAtNs, startedAtNs, finishedAtNs, state, pod, ...rest } = container;
  return {
    ...rest,
    state: states[state] ?? 'unknown',
    createdAt: timestamp(createdAtNs),
    startedAt: startedAtNs === 0n ? null : timestamp(startedAtNs),
    finishedAt: finishedAtNs === 0n ? null : timestamp(finishedAtNs),
    pod: pod ?? null,
  };
}
