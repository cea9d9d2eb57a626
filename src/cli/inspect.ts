import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { complain } from './each';
import { isNotFound } from './errors';
import { print } from './output';
import { parseGoTemplate } from './format/go-template';
import { printable } from './format/printable';
import { timestamp } from './format/age';
import { ContainersService } from '../cri/generated/berth/v1/containers';
import { showTimings } from './timings';

type Kind = 'container' | 'image' | 'volume';

interface Flags {
  type?: Kind;
  format: string;
  size: boolean;
  timings?: true;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] NAME…')
    .argument('<name...>', 'containers, images or volumes; in this order where several have the name')
    .option('--type <type>', 'look among these only: container, image or volume', parseKind)
    .option('-f, --format <template>', 'a template instead of JSON: {{.State.Status}}', '')
    .option('-s, --size', 'also what containers have written', false)
    .option('--timings', "show where the time of a container's start went, step by step")
    .addHelpText(
      'after',
      '\nWhat docker has is under docker’s keys, what is berth’s own beside it.' +
        '\nExample: berth inspect web\n         berth inspect --type image alpine' +
        "\n         berth inspect -f '{{range .Mounts}}{{.Source}} {{end}}' web\n         berth inspect --timings web",
    )
    .action((names: string[], { type, format, size, timings }: Flags) =>
      timings ? showTimings(daemon(), names) : inspectAll(daemon(), names, type, format, size),
    );
}

/** Prints what is known of all that were found, and says of each of the others why not. */
export async function inspectAll(
  daemon: Daemon,
  names: readonly string[],
  type: Kind | undefined,
  format = '',
  size = false,
): Promise<void> {
  await printInspected(names, format, async name => {
    const json = await inspect(daemon, name, type);
    return size ? withSize(daemon, json) : json;
  });
}

/** As one JSON list, or a line for each by a template. */
export async function printInspected(
  names: readonly string[],
  format: string,
  ask: (name: string) => Promise<string>,
): Promise<void> {
  const template = format === '' || format === 'json' ? undefined : parseGoTemplate(format, shown());
  const found = await Promise.allSettled(names.map(ask));
  // The texts go out as they came: parsed, their 64-bit numbers would lose digits.
  const texts = found.flatMap(result => (result.status === 'fulfilled' ? [result.value.trim()] : []));
  if (template) for (const text of texts) await print(`${template(JSON.parse(text))}\n`);
  else if (format === 'json') await print(texts.map(text => `${JSON.stringify(JSON.parse(text))}\n`).join(''));
  else await print(`[${texts.length === 0 ? '' : `\n${texts.join(',\n')}\n`}]\n`);
  for (const result of found) if (result.status === 'rejected') complain(result.reason);
}

/** A program gets what is there, byte for byte; a terminal must not be steered by it. */
function shown(): (text: string) => string {
  return process.stdout.isTTY ? printable : text => text;
}

async function withSize(daemon: Daemon, json: string): Promise<string> {
  const { Id, State } = JSON.parse(json) as { Id?: string; State?: object };
  if (Id === undefined || State === undefined) return json;
  const { sizes } = await daemon.ask(ContainersService.sizes, { containers: [Id] });
  const [size] = sizes;
  return size ? json.replace('{', `{\n  "SizeRw": ${size.writableBytes},\n  "SizeRootFs": ${size.rootBytes},`) : json;
}

const asks: Readonly<Record<Kind, (daemon: Daemon, name: string) => Promise<string>>> = {
  container: async (daemon, container) => (await daemon.ask(BerthService.inspectContainer, { container })).json,
  image: async (daemon, image) => (await daemon.ask(BerthService.inspectImage, { image })).json,
  volume: inspectVolume,
};

async function inspect(daemon: Daemon, name: string, kind: Kind | undefined): Promise<string> {
  if (kind) return await asks[kind](daemon, name);
  for (const ask of [asks.container, asks.image, asks.volume]) {
    try {
      return await ask(daemon, name);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
  throw new BerthError('not_found', `no container, image or volume is named ${name}`);
}

async function inspectVolume(daemon: Daemon, name: string): Promise<string> {
  const { volumes } = await daemon.ask(ContainersService.listVolumes, { sizes: false });
  const found = volumes.find(volume => volume.name === name);
  if (!found) throw new BerthError('not_found', `no volume is called ${JSON.stringify(name)}`);
  const { path, createdAtNs, labels, containers } = found;
  const view = {
    Name: name,
    Driver: 'local',
    Mountpoint: path,
    CreatedAt: timestamp(createdAtNs),
    Labels: labels,
    Scope: 'local',
  };
  return JSON.stringify({ ...view, containers }, undefined, 2);
}

function parseKind(text: string): Kind {
  if (text === 'container' || text === 'image' || text === 'volume') return text;
  throw new BerthError('invalid_argument', `--type ${text} is not known`, { hint: 'it is container, image or volume' });
}
