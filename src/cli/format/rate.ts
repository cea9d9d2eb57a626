import { humanSize } from './size';

/** `12.3MB/s` */
export function humanRate(bytesPerSecond: bigint | number): string {
  return `${humanSize(bytesPerSecond)}/s`;
}

/** `8s`, `2m05s`, `1h02m`: as short as a column of a table. */
export function humanTime(seconds: bigint | number): string {
  const all = Number(seconds);
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0');
  if (all < 60) return `${all}s`;
  if (all < 3600) return `${Math.floor(all / 60)}m${two(all % 60)}s`;
  return `${Math.floor(all / 3600)}h${two((all % 3600) / 60)}m`;
}
