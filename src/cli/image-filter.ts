import { BerthError } from '../base/errors';
import { BerthService, type Image } from '../cri/generated/berth/v1/berth';
import type { Daemon } from './client';
import type { Row } from './images';

const keys = ['dangling', 'reference', 'label', 'before', 'since'] as const;

/** `--filter key=value`; those of one kind are alternatives where docker has them as such, all others must hold. */
export interface Filter {
  readonly key: (typeof keys)[number];
  readonly value: string;
}

export function collectFilter(text: string, before: readonly Filter[]): Filter[] {
  const equals = text.indexOf('=');
  const key = keys.find(one => one === text.slice(0, Math.max(equals, 0)));
  if (key === undefined) {
    throw new BerthError('invalid_argument', `--filter ${text} is not known`, {
      hint: `filters look like dangling=true; there are ${keys.join(', ')}`,
    });
  }
  const value = text.slice(equals + 1);
  if (key === 'dangling' && !/^(true|false|1|0)$/.test(value))
    throw new BerthError('invalid_argument', `--filter ${text}: dangling is true or false`);
  return [...before, { key, value }];
}

/** What rows must fulfil; labels are the daemon's to compare. */
export async function filterOf(filters: readonly Filter[], daemon: Daemon): Promise<(row: Row) => boolean> {
  const values = (key: Filter['key']) => filters.flatMap(filter => (filter.key === key ? [filter.value] : []));
  const bounds = await Promise.all([boundOf(values('before'), daemon), boundOf(values('since'), daemon)]);
  const [before, since] = bounds;
  const dangling = values('dangling').map(value => value === 'true' || value === '1');
  const references = values('reference');
  return row =>
    dangling.every(wanted => wanted === (row.image.repoTags.length === 0)) &&
    (references.length === 0 || references.some(pattern => matches(row, pattern))) &&
    (before === undefined || row.image.createdAtNs < before) &&
    (since === undefined || row.image.createdAtNs > since);
}

/** When the last of these images was made. */
async function boundOf(names: readonly string[], daemon: Daemon): Promise<bigint | undefined> {
  const name = names.at(-1);
  if (name === undefined) return undefined;
  const { json } = await daemon.ask(BerthService.inspectImage, { image: name });
  const { createdAtNs } = JSON.parse(json) as { createdAtNs: string };
  return BigInt(createdAtNs);
}

/** As a shell matches paths: `*` and `?` stop at a slash; a pattern without a tag means any. */
function matches({ repository, tag }: Pick<Row, 'repository' | 'tag'> & { image: Image }, pattern: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|\\]/g, '\\$&')
    .replaceAll('*', '[^/]*')
    .replaceAll('?', '[^/]');
  let whole: RegExp;
  try {
    whole = new RegExp(`^${source}$`);
  } catch {
    throw new BerthError('invalid_argument', `--filter reference=${pattern} is no pattern`);
  }
  return whole.test(repository) || whole.test(`${repository}:${tag}`);
}
