import { addon } from '../native/addon';

/** Bytes on the disk of each of these directories; undefined for one that is not there. On a pool thread. */
export async function treeUsage(directories: readonly string[]): Promise<(bigint | undefined)[]> {
  if (directories.length === 0) return [];
  const cells = await addon().treeUsage(directories.join('\0'));
  return directories.map((_, i) => {
    const bytes = cells[2 * i] ?? NaN;
    return Number.isNaN(bytes) ? undefined : BigInt(bytes);
  });
}
