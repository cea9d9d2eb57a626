import type { Command } from 'commander';
import { BerthService, ContainerState as State, type Container } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { humanAge, humanDuration, nowNs, secondsBetween, timestamp } from './format/age';
import { jsonLines, parseFormat, type Format } from './format/json';
import { ellipsis, familiar, shortId } from './format/names';
import { table } from './format/table';
import { print } from './output';

interface Flags {
  all: boolean;
  quiet: boolean;
  trunc: boolean;
  format: Format;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-a, --all', 'also those that do not run', false)
    .option('-q, --quiet', 'only the ids', false)
    .option('--no-trunc', 'whole ids and commands')
    .option('--format <format>', 'table or json (default: table)', parseFormat, 'table')
    .addHelpText('after', '\nExample: berth ps -a')
    .action(async (flags: Flags) => {
      const { containers } = await daemon().ask(BerthService.listContainers, { all: flags.all });
      await print(format(containers, flags));
    });
}

function format(containers: readonly Container[], { quiet, trunc, format }: Flags): string {
  if (quiet) return containers.map(({ id }) => `${trunc ? shortId(id) : id}\n`).join('');
  if (format === 'json') return jsonLines(containers.map(toJson));
  const now = nowNs();
  return table(
    ['CONTAINER ID', 'IMAGE', 'COMMAND', 'CREATED', 'STATUS', 'NAMES'],
    containers.map(container => [
      trunc ? shortId(container.id) : container.id,
      imageOf(container, trunc),
      `"${trunc ? ellipsis(container.command.join(' '), 20) : container.command.join(' ')}"`,
      humanAge(container.createdAtNs, now),
      statusOf(container, now),
      nameOf(container),
    ]),
  );
}

/** The kubelet asks for images by id or by digest; people know the name before it, or else the short id. */
function imageOf({ image }: Container, trunc: boolean): string {
  if (!trunc) return image;
  return image.startsWith('sha256:') ? shortId(image) : familiar(image.replace(/@sha256:.*/, ''));
}

/** `Up 5 minutes`, `Exited (0) 2 hours ago`, `Created`. */
export function statusOf(container: Container, now: bigint): string {
  switch (container.state) {
    case State.CONTAINER_STATE_RUNNING:
      return `Up ${humanDuration(secondsBetween(container.startedAtNs, now))}`;
    case State.CONTAINER_STATE_PAUSED:
      return `Up ${humanDuration(secondsBetween(container.startedAtNs, now))} (Paused)`;
    case State.CONTAINER_STATE_EXITED:
      return `Exited (${container.exitCode}) ${humanAge(container.finishedAtNs, now)}`;
    case State.CONTAINER_STATE_CREATED:
      return 'Created';
    default:
      return 'Unknown';
  }
}

/** A kubelet's container is called as other verbs take it: pod/name. */
function nameOf({ name, pod }: Container): string {
  return pod ? `${pod.name}/${name}` : name;
}

const states: Readonly<Record<number, string>> = {
  [State.CONTAINER_STATE_CREATED]: 'created',
  [State.CONTAINER_STATE_RUNNING]: 'running',
  [State.CONTAINER_STATE_EXITED]: 'exited',
  [State.CONTAINER_STATE_PAUSED]: 'paused',
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
