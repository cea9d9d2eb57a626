import { BerthError } from '../../base/errors';

const NS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/** `30s`, `1m30s`, `1.5h`: nanoseconds. */
export function parseDuration(flag: string, text: string): bigint {
  if (text === '0') return 0n;
  if (/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) {
    const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)];
    return parts.reduce(
      (sum, [, amount, unit]) => sum + BigInt(Math.round(Number(amount) * (NS[unit ?? ''] ?? 0))),
      0n,
    );
  }
  throw new BerthError('invalid_argument', `${flag} "${text}" is not a duration`, { hint: 'write 30s, 1m30s or 2h' });
}
