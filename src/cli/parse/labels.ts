import { BerthError } from '../../base/errors';

/** The values of `--label`: KEY=VALUE, or KEY with an empty value; the last of a key counts. */
export function parseLabels(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(texts.map(parseLabel));
}

function parseLabel(text: string): [string, string] {
  const equals = text.indexOf('=');
  const key = equals < 0 ? text : text.slice(0, equals);
  if (key === '') throw new BerthError('invalid_argument', `--label ${text}: the key is empty`);
  return [key, equals < 0 ? '' : text.slice(equals + 1)];
}
