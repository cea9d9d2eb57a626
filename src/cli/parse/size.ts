import { BerthError } from '../../base/errors';

const UNITS: Readonly<Record<string, bigint>> = {
  '': 1n,
  b: 1n,
  k: 1n << 10n,
  m: 1n << 20n,
  g: 1n << 30n,
  t: 1n << 40n,
};

/** `512m`, `1.5g`, `64kb`, `1000`: bytes, in powers of 1024, as docker has them; -1 where `any` allows no limit. */
export function parseSize(flag: string, text: string, any = false): bigint {
  if (any && text === '-1') return -1n;
  const [, amount = '', unit = ''] = /^(\d{1,12}(?:\.\d{1,9})?)([bkmgt]?)(?:i?b)?$/i.exec(text.trim()) ?? [];
  const factor = UNITS[unit.toLowerCase()];
  if (amount === '' || factor === undefined) {
    throw new BerthError('invalid_argument', `${flag} "${text}" is not a size`, { hint: 'write 512m, 1g or bytes' });
  }
  return BigInt(Math.round(Number(amount) * Number(factor)));
}
