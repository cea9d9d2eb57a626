import type { Command } from 'commander';
import { BerthService, type Image } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { humanAge, nowNs, timestamp } from './format/age';
import { jsonLines, parseFormat, type Format } from './format/json';
import { familiar, shortId, splitTag } from './format/names';
import { humanSize } from './format/size';
import { table } from './format/table';
import { parseTemplate, type Template } from './format/template';
import { collectFilter, filterOf, type Filter } from './image-filter';
import { print } from './output';

interface Flags {
  all: boolean;
  quiet: boolean;
  trunc: boolean;
  digests: boolean;
  filter: Filter[];
  format: Format | Template;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] [REPOSITORY[:TAG]]')
    .argument('[repository]', 'only the images of this name')
    .option('-a, --all', 'changes nothing: there are no hidden images', false)
    .option('-q, --quiet', 'only the ids', false)
    .option('--no-trunc', 'whole ids')
    .option('--digests', 'also the digests that registries know', false)
    .option(
      '-f, --filter <filter>',
      'dangling=true, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, since=IMAGE',
      collectFilter,
      [],
    )
    .option('--format <format>', 'table, json or a template: {{.Repository}}:{{.Tag}}', parseImageFormat, 'table')
    .addHelpText('after', '\nExample: berth images alpine\n         berth images --filter dangling=true -q')
    .action(async (repository: string | undefined, flags: Flags) => {
      const labels = flags.filter.flatMap(({ key, value }) => (key === 'label' ? [value] : []));
      const { images } = await daemon().ask(BerthService.listImages, { labels });
      const passes = await filterOf(flags.filter, daemon());
      const rows = images
        .flatMap(image => toRows(image, flags.digests))
        .filter(row => (repository === undefined || isNamed(row, repository)) && passes(row));
      await print(format(rows, flags));
    });
}

function parseImageFormat(text: string): Format | Template {
  return text.includes('{{') ? parseTemplate(text, templateFields) : parseFormat(text);
}

/** What --filter compares and what is printed. */
export interface Row {
  repository: string;
  tag: string;
  /** `<none>` where no registry is known to have the image under this name. */
  digest: string;
  image: Image;
}

/** An image has a row for each of its names, with `digests` for each digest of a name; without one, that of its digest. */
function toRows(image: Image, digests: boolean): Row[] {
  const names = image.repoTags.map(splitTag);
  if (names.length === 0) {
    const [repository = '<none>', digest = '<none>'] = image.repoDigests[0]?.split('@') ?? [];
    return [{ ...splitTag(repository), digest, image }];
  }
  return names.flatMap(name => {
    const known = image.repoDigests
      .map(text => text.split('@'))
      .flatMap(([repository = '', digest = '']) => (familiar(repository) === name.repository ? [digest] : []));
    const shown = digests && known.length > 0 ? known : [known[0] ?? '<none>'];
    return shown.map(digest => ({ ...name, digest, image }));
  });
}

function isNamed({ repository, tag }: Row, wanted: string): boolean {
  const name = splitTag(wanted);
  return repository === name.repository && (name.tag === '<none>' || tag === name.tag);
}

function format(rows: readonly Row[], { quiet, trunc, digests, format }: Flags): string {
  const id = (image: Image) => (trunc ? shortId(image.id) : image.id);
  if (quiet) return [...new Set(rows.map(({ image }) => `${id(image)}\n`))].join('');
  if (format === 'json') return jsonLines(rows.map(toJson));
  const now = nowNs();
  const fields = rows.map(row => fieldsOf(row, trunc, now));
  if (format !== 'table') return fields.map(format).join('');
  // Where all are the node's, as on most, the table is as everybody knows it.
  const platforms = rows.some(({ image }) => image.isForeign);
  return table(
    [
      ...['REPOSITORY', 'TAG', ...(digests ? ['DIGEST'] : []), 'IMAGE ID', 'CREATED', 'SIZE'],
      ...(platforms ? ['PLATFORM'] : []),
    ],
    fields.map(({ Repository, Tag, Digest, ID, CreatedSince, Size, Platform }) => [
      ...[Repository, Tag, ...(digests ? [Digest] : [])],
      ...[ID, CreatedSince, Size, ...(platforms ? [Platform] : [])],
    ]),
  );
}

/** Under the names that docker's templates have for them. */
const templateFields = ['ID', 'Repository', 'Tag', 'Digest', 'CreatedSince', 'CreatedAt', 'Size', 'Platform'] as const;

function fieldsOf({ repository, tag, digest, image }: Row, trunc: boolean, now: bigint) {
  return {
    ID: trunc ? shortId(image.id) : image.id,
    Repository: repository,
    Tag: tag,
    Digest: digest,
    CreatedSince: humanAge(image.createdAtNs, now),
    CreatedAt: timestamp(image.createdAtNs),
    Size: humanSize(image.sizeBytes),
    Platform: image.platform,
  };
}

function toJson({ repository, tag, image }: Row): object {
  const { id, repoDigests, sizeBytes, createdAtNs, platform } = image;
  return { repository, tag, id, platform, repoDigests, sizeBytes, createdAt: timestamp(createdAtNs) };
}
