import { BerthError } from '../../base/errors';

/** The value of `--tail`: a number of lines, or `all`, which is undefined. */
export function parseTail(text: string): bigint | undefined {
  return text === 'all' ? undefined : parseCount('--tail', text, 'a number of lines, or all');
}

/** How long something may take. */
export function parseSeconds(flag: string, text: string): bigint {
  return parseCount(flag, text, 'a number of seconds, 0 or more');
}

function parseCount(flag: string, text: string, what: string): bigint {
  if (/^\d{1,15}$/.test(text)) return BigInt(text);
  throw new BerthError('invalid_argument', `${flag} "${text}" is not ${what}`);
}

/** A whole number, of either sign. */
export function parseInteger(flag: string, text: string): bigint {
  if (/^-?\d{1,18}$/.test(text)) return BigInt(text);
  throw new BerthError('invalid_argument', `${flag} "${text}" is not a whole number`);
}
