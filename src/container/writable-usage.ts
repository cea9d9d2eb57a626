import { lstat, opendir } from 'node:fs/promises';
import { join } from 'node:path';

export interface Usage {
  readonly takenAtMs: number;
  readonly bytes: bigint;
  readonly inodes: bigint;
}

/** A reading is good for so long; the kubelet asks every ten seconds and more. */
const goodForMs = 10_000;

/**
 * What containers have written. Nobody tells how much that is, so that the files
 * are counted; a call never waits for that but the first, and gets the last reading
 * with its time.
 */
export class WritableUsage {
  private last: Usage | undefined;
  private counting: Promise<Usage> | undefined;

  constructor(private readonly dir: string) {}

  async read(): Promise<Usage> {
    if (!this.last || Date.now() - this.last.takenAtMs > goodForMs) this.counting ??= this.count();
    return this.last ?? (await (this.counting ?? this.count()));
  }

  private async count(): Promise<Usage> {
    const total = { bytes: 0n, inodes: 0n, linked: new Set<string>() };
    await add(this.dir, total);
    this.last = { takenAtMs: Date.now(), bytes: total.bytes, inodes: total.inodes };
    this.counting = undefined;
    return this.last;
  }
}

/** What goes away meanwhile, or cannot be read, counts for nothing. */
async function add(path: string, total: { bytes: bigint; inodes: bigint; linked: Set<string> }): Promise<void> {
  const found = await lstat(path, { bigint: true }).catch(() => undefined);
  if (!found) return;
  const name = `${found.dev}:${found.ino}`;
  if (!found.isDirectory() && found.nlink > 1n && total.linked.has(name)) return;
  if (!found.isDirectory() && found.nlink > 1n) total.linked.add(name);
  total.bytes += found.blocks * 512n;
  total.inodes += 1n;
  if (!found.isDirectory()) return;
  const dir = await opendir(path).catch(() => undefined);
  if (!dir) return;
  for await (const entry of dir) await add(join(path, entry.name), total);
}
