import { BerthError } from '../base/errors';

/** The kernel takes 2^32 - 1 for "no change". */
const MAX_ID = 2n ** 32n - 2n;

/** A number as text is a number, range-checked, never looked up as a name (CVE-2024-40635, CVE-2026-46680). */
export function idText(value: bigint | string, what: string): string {
  const number = BigInt(value);
  if (number >= 0n && number <= MAX_ID) return number.toString();
  throw new BerthError('invalid_argument', `${what} ${number} is not between 0 and ${MAX_ID}`);
}

/** `user`, `user:group`, each a name or a number, as an image's USER has it; empty is root. */
export function parseUser(text: string, what = 'user'): { user: string; group: string } {
  const parts = text.split(':');
  const [user = '', group = ''] = parts;
  if (parts.length > 2 || (user === '' && text !== '')) throw refuse(text, what);
  return { user: part(user === '' ? '0' : user, text, what), group: group === '' ? '' : part(group, text, what) };
}

function part(value: string, text: string, what: string): string {
  if (/^\d+$/.test(value)) return idText(value, what);
  // Signs, spaces, control characters: neither a number nor a name that a passwd file could hold (CVE-2026-30892).
  if (!/^[^\s\0-\x1f\x7f:,+-][^\s\0-\x1f\x7f:,]*$/.test(value) || value.length > 255) throw refuse(text, what);
  return value;
}

function refuse(text: string, what: string): BerthError {
  return new BerthError(
    'invalid_argument',
    `${what} ${JSON.stringify(text)} is neither a name nor a number, nor name:group`,
  );
}
