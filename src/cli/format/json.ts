import { BerthError } from '../../base/errors';

export type Format = 'table' | 'json';

/** The value of `--format`. */
export function parseFormat(text: string): Format {
  if (text === 'table' || text === 'json') return text;
  throw new BerthError('invalid_argument', `--format ${text} is not known`, { hint: 'it is table or json' });
}

/** One object a line. Sizes are numbers; times are given as texts, since a number would lose their last digits. */
export function jsonLines(objects: readonly object[]): string {
  return objects.map(object => `${JSON.stringify(object, exact)}\n`).join('');
}

function exact(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}
