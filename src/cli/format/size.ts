const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'];

/** Three significant digits in powers of 1000, as docker prints them: 0B, 13.3kB, 4.5MB, 128MB. */
export function humanSize(bytes: bigint | number): string {
  let value = Number(bytes);
  let unit = 0;
  // 999.5 would be printed as 1e+3, so it already is one of the next unit.
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  const text = value >= 999.5 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
  return text + (units[unit] ?? '');
}
