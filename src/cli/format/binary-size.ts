const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** Four significant digits in powers of 1024, as docker prints memory: 0B, 1.5MiB, 7.637GiB. */
export function binarySize(bytes: bigint | number): string {
  let value = Number(bytes);
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value >= 1000 ? Math.round(value) : Number(value.toPrecision(4))}${units[unit] ?? ''}`;
}
