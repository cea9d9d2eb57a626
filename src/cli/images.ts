import type { Command } from 'commander';
import { BerthService, type Image } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { humanAge, nowNs, timestamp } from './format/age';
import { jsonLines, parseFormat, type Format } from './format/json';
import { shortId, splitTag } from './format/names';
import { humanSize } from './format/size';
import { table } from './format/table';
import { print } from './output';

interface Flags {
  quiet: boolean;
  trunc: boolean;
  format: Format;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] [REPOSITORY[:TAG]]')
    .argument('[repository]', 'only the images of this name')
    .option('-q, --quiet', 'only the ids', false)
    .option('--no-trunc', 'whole ids')
    .option('--format <format>', 'table or json (default: table)', parseFormat, 'table')
    .addHelpText('after', '\nExample: berth images alpine')
    .action(async (repository: string | undefined, flags: Flags) => {
      const { images } = await daemon().ask(BerthService.listImages, { labels: [] });
      const rows = images.flatMap(toRows).filter(row => repository === undefined || isNamed(row, repository));
      await print(format(rows, flags));
    });
}

interface Row {
  repository: string;
  tag: string;
  image: Image;
}

/** An image has a row for each of its names; without one, it has the repository of its digest. */
function toRows(image: Image): Row[] {
  const names = image.repoTags.map(splitTag);
  if (names.length > 0) return names.map(name => ({ ...name, image }));
  const repository = image.repoDigests[0]?.split('@')[0];
  return [{ ...splitTag(repository ?? '<none>'), image }];
}

function isNamed({ repository, tag }: Row, wanted: string): boolean {
  const name = splitTag(wanted);
  return repository === name.repository && (name.tag === '<none>' || tag === name.tag);
}

function format(rows: readonly Row[], { quiet, trunc, format }: Flags): string {
  const id = (image: Image) => (trunc ? shortId(image.id) : image.id);
  if (quiet) return [...new Set(rows.map(({ image }) => `${id(image)}\n`))].join('');
  if (format === 'json') return jsonLines(rows.map(toJson));
  const now = nowNs();
  return table(
    ['REPOSITORY', 'TAG', 'IMAGE ID', 'CREATED', 'SIZE'],
    rows.map(({ repository, tag, image }) => [
      repository,
      tag,
      id(image),
      humanAge(image.createdAtNs, now),
      humanSize(image.sizeBytes),
    ]),
  );
}

function toJson({ repository, tag, image }: Row): object {
  const { id, repoDigests, sizeBytes, createdAtNs } = image;
  return { repository, tag, id, repoDigests, sizeBytes, createdAt: timestamp(createdAtNs) };
}
