import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { complain } from './each';
import { isNotFound } from './errors';
import { print } from './output';
import { showTimings } from './timings';

type Kind = 'container' | 'image';

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] NAME…')
    .argument('<name...>', 'containers or images; a container comes first where both have the name')
    .option('--type <type>', 'look among these only: container or image', parseKind)
    .option('--timings', "show where the time of a container's start went, step by step")
    .addHelpText(
      'after',
      '\nExample: berth inspect web\n         berth inspect --type image alpine\n         berth inspect --timings web',
    )
    .action((names: string[], { type, timings }: { type?: Kind; timings?: true }) =>
      timings ? showTimings(daemon(), names) : inspectAll(daemon(), names, type),
    );
}

/** Prints what is known of all that were found as one JSON list, and says of each of the others why not. */
export async function inspectAll(daemon: Daemon, names: readonly string[], type: Kind | undefined): Promise<void> {
  const found = await Promise.allSettled(names.map(name => inspect(daemon, name, type)));
  // The texts go out as they came: parsed, their 64-bit numbers would lose digits.
  const texts = found.flatMap(result => (result.status === 'fulfilled' ? [result.value.trim()] : []));
  await print(`[${texts.length === 0 ? '' : `\n${texts.join(',\n')}\n`}]\n`);
  for (const result of found) if (result.status === 'rejected') complain(result.reason);
}

async function inspect(daemon: Daemon, name: string, kind: Kind | undefined): Promise<string> {
  if (kind === 'image') return (await daemon.ask(BerthService.inspectImage, { image: name })).json;
  try {
    return (await daemon.ask(BerthService.inspectContainer, { container: name })).json;
  } catch (error) {
    if (kind === 'container' || !isNotFound(error)) throw error;
    return await inspectImage(daemon, name);
  }
}

async function inspectImage(daemon: Daemon, name: string): Promise<string> {
  try {
    return (await daemon.ask(BerthService.inspectImage, { image: name })).json;
  } catch (error) {
    if (!isNotFound(error)) throw error;
    throw new BerthError('not_found', `no container or image is named ${name}`, { cause: error });
  }
}

function parseKind(text: string): Kind {
  if (text === 'container' || text === 'image') return text;
  throw new BerthError('invalid_argument', `--type ${text} is neither container nor image`);
}
