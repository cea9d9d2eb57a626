import { BerthError } from '../../base/errors';

const unitsNs: Readonly<Record<string, number>> = { d: 86_400e9, h: 3_600e9, m: 60e9, s: 1e9, ms: 1e6, us: 1e3, ns: 1 };

/**
 * The value of `--since`, or of another flag that takes a time: a duration before now (`90s`, `1h30m`), seconds since 1970 (`1700000000.5`), or a date and
 * time (`2026-01-31T08:00:00Z`, of this machine's zone when it names none).
 */
export function parseSince(text: string, nowNs: bigint, flag = '--since'): bigint {
  const found = fromDuration(text, nowNs) ?? fromSeconds(text) ?? fromDate(text);
  if (found !== undefined) return found;
  throw new BerthError('invalid_argument', `${flag} "${text}" is not a time`, {
    hint: 'write 10m, 1h30m, 2026-01-31T08:00:00Z, or seconds since 1970',
  });
}

function fromDuration(text: string, nowNs: bigint): bigint | undefined {
  if (!/^(\d+(\.\d+)?(ms|us|ns|d|h|m|s))+$/.test(text)) return undefined;
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|us|ns|d|h|m|s)/g)];
  return parts.reduce(
    (at, [, amount, unit]) => at - BigInt(Math.round(Number(amount) * (unitsNs[unit ?? ''] ?? 0))),
    nowNs,
  );
}

function fromSeconds(text: string): bigint | undefined {
  const match = /^(\d{1,10})(?:\.(\d{1,9}))?$/.exec(text);
  return match ? BigInt(match[1] ?? '0') * 1_000_000_000n + fraction(match[2]) : undefined;
}

/** The fraction is taken apart, since a Date ends at milliseconds. */
function fromDate(text: string): bigint | undefined {
  const match = /^(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?$/.exec(text);
  if (!match) return undefined;
  const [, day = '', digits, zone = ''] = match;
  const milliseconds = Date.parse(`${day.includes(':') ? day.replace(' ', 'T') : `${day}T00:00`}${zone}`);
  return Number.isNaN(milliseconds) ? undefined : BigInt(milliseconds) * 1_000_000n + fraction(digits);
}

function fraction(digits = ''): bigint {
  return BigInt(digits.padEnd(9, '0'));
}
