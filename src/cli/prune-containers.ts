import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { hasLabel } from '../base/labels';
import { BerthService, ContainerState as State, type Container } from '../cri/generated/berth/v1/berth';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import type { Daemon } from './client';
import { confirm } from './confirm';
import { complain } from './each';
import { nowNs } from './format/age';
import { humanSize } from './format/size';
import { print } from './output';
import { parseSince } from './parse/since';

export type PruneFilter = (what: { createdAtNs: bigint; labels: Readonly<Record<string, string>> }) => boolean;

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('-f, --force', 'do not ask', false)
    .option('--filter <filter>', 'until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]', collectPruneFilter, [])
    .addHelpText('after', '\nExample: berth container prune -f --filter until=24h')
    .action(async ({ force, filter }: { force: boolean; filter: PruneFilter[] }) => {
      await confirm(force, "This removes all of people's containers that do not run.");
      await print(`Total reclaimed space: ${humanSize(await pruneContainers(daemon(), filter))}\n`);
    });
}

/** Removes people's containers that do not run, and prints which; the bytes that were freed. The kubelet's are its own. */
export async function pruneContainers(daemon: Daemon, filters: readonly PruneFilter[]): Promise<bigint> {
  const { containers } = await daemon.ask(BerthService.listContainers, { all: true });
  const some = containers.filter(container => isIdle(container) && filters.every(passes => passes(container)));
  const { sizes } = await daemon.ask(ContainersService.sizes, { containers: some.map(({ id }) => id) });
  let freed = 0n;
  for (const { id, writableBytes } of sizes) {
    try {
      await daemon.ask(BerthService.remove, { container: id, force: false });
      freed += writableBytes;
      await print(`Deleted container: ${id}\n`);
    } catch (error) {
      complain(error); // somebody has started it meanwhile
    }
  }
  return freed;
}

function isIdle({ state, pod }: Container): boolean {
  return pod === undefined && (state === State.CONTAINER_STATE_EXITED || state === State.CONTAINER_STATE_CREATED);
}

export function collectPruneFilter(text: string, before: readonly PruneFilter[]): PruneFilter[] {
  const [, key = '', isNot = '', value = ''] = /^(until|label)(!?)=(.+)$/.exec(text) ?? [];
  if (key === 'until' && isNot === '') {
    const until = parseSince(value, nowNs(), '--filter until');
    return [...before, ({ createdAtNs }) => createdAtNs < until];
  }
  if (key === 'label') return [...before, ({ labels }) => hasLabel(labels, value) === (isNot === '')];
  throw new BerthError('invalid_argument', `--filter ${text} is not known`, {
    hint: 'filters look like until=24h; there are until, label and label!',
  });
}
