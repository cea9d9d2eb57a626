const minute = 60;
const hour = 60 * minute;

/** How long, in docker's words: `Less than a second`, `About a minute`, `5 hours`, `3 weeks`. */
export function humanDuration(seconds: number): string {
  if (seconds < 1) return 'Less than a second';
  if (seconds < 2) return '1 second';
  if (seconds < minute) return `${Math.floor(seconds)} seconds`;
  if (seconds < 2 * minute) return 'About a minute';
  if (seconds < hour) return `${Math.floor(seconds / minute)} minutes`;
  return humanHours(Math.round(seconds / hour));
}

function humanHours(hours: number): string {
  const days = Math.floor(hours / 24);
  if (hours === 1) return 'About an hour';
  if (hours < 48) return `${hours} hours`;
  if (days < 14) return `${days} days`;
  if (days < 60) return `${Math.floor(days / 7)} weeks`;
  if (days < 2 * 365) return `${Math.floor(days / 30)} months`;
  return `${Math.floor(days / 365)} years`;
}

/** How long ago `atNs` was: `5 minutes ago`; `N/A` for a time that is not known. */
export function humanAge(atNs: bigint, nowNs: bigint): string {
  return atNs === 0n ? 'N/A' : `${humanDuration(secondsBetween(atNs, nowNs))} ago`;
}

/** From one time to another, never less than 0: clocks are set back. */
export function secondsBetween(fromNs: bigint, toNs: bigint): number {
  return Math.max(0, Number(toNs - fromNs) / 1e9);
}

export function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

/** RFC 3339 in UTC with nine digits, so that lines sort as texts. */
export function timestamp(atNs: bigint): string {
  const seconds = atNs / 1_000_000_000n;
  const nanoseconds = (atNs % 1_000_000_000n).toString().padStart(9, '0');
  return `${new Date(Number(seconds) * 1000).toISOString().slice(0, 19)}.${nanoseconds}Z`;
}
