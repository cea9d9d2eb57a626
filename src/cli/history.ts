import type { Command } from 'commander';
import { BerthService } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import { humanAge, nowNs, timestamp } from './format/age';
import { listFormat, listing, type ListFormat } from './format/listing';
import { ellipsis, shortId } from './format/names';
import { humanSize } from './format/size';
import { print } from './output';

interface Flags {
  human: boolean;
  quiet: boolean;
  trunc: boolean;
  format: ListFormat;
}

interface Step {
  createdNs?: string;
  createdBy?: string;
  comment?: string;
  emptyLayer: boolean;
}

/** What the daemon tells of an image; 64-bit numbers are texts. */
interface Inspected {
  id: string;
  config: { history: Step[] };
  layers: { sizeBytes: string | number }[];
}

const HEADERS = {
  ID: 'IMAGE',
  CreatedSince: 'CREATED',
  CreatedAt: 'CREATED AT',
  CreatedBy: 'CREATED BY',
  Size: 'SIZE',
  Comment: 'COMMENT',
};

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS] IMAGE')
    .argument('<image>', 'a reference, an id, or the first digits of one')
    .option('-H, --human <bool>', 'sizes and times for people (default: true)', text => text !== 'false', true)
    .option('-q, --quiet', 'only the ids', false)
    .option('--no-trunc', 'whole ids and commands')
    .option(
      '--format <format>',
      'table, json or a template: {{.CreatedBy}}',
      listFormat(HEADERS),
      listFormat(HEADERS)('table'),
    )
    .addHelpText('after', '\nExample: berth history --no-trunc alpine')
    .action(async (image: string, flags: Flags) => {
      const { json } = await daemon().ask(BerthService.inspectImage, { image });
      await print(format(JSON.parse(json) as Inspected, flags));
    });
}

function format({ id, config, layers }: Inspected, { human, quiet, trunc, format: wanted }: Flags): string {
  const now = nowNs();
  const sizes = layers.map(({ sizeBytes }) => BigInt(sizeBytes));
  // What does not say how it was built has its layers.
  const steps = config.history.length > 0 ? config.history : layers.map((): Step => ({ emptyLayer: false }));
  const rows = steps.map(({ createdNs, createdBy = '', comment = '', emptyLayer }) => {
    const at = BigInt(createdNs ?? 0);
    const bytes = emptyLayer ? 0n : (sizes.shift() ?? 0n);
    const by = createdBy.replace(/\s+/g, ' ');
    return {
      ID: '<missing>',
      CreatedSince: human ? humanAge(at, now) : timestamp(at),
      CreatedAt: timestamp(at),
      CreatedBy: trunc ? ellipsis(by, 45) : by,
      Size: human ? humanSize(bytes) : String(bytes),
      Comment: comment,
    };
  });
  // The last step is the image itself; those before have no name of their own.
  const [newest, ...older] = rows.reverse();
  const named = newest ? [{ ...newest, ID: trunc ? shortId(id) : id }, ...older] : [];
  if (quiet) return named.map(({ ID }) => `${ID}\n`).join('');
  const columns = ['ID', human ? 'CreatedSince' : 'CreatedAt', 'CreatedBy', 'Size', 'Comment'];
  return listing(
    wanted,
    HEADERS,
    columns,
    named.map(fields => ({ fields, json: {} })),
  );
}
