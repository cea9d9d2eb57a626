import type { Duplex } from 'node:stream';

/** Who does not take the last bytes by then is cut off. */
const LAST_BYTES_MS = 5000;

/** Closes once what was written is on its way. */
export function closeSoon(stream: Duplex): void {
  if (stream.destroyed) return;
  const timer = setTimeout(() => stream.destroy(), LAST_BYTES_MS).unref();
  stream.once('close', () => clearTimeout(timer));
  stream.end(() => stream.destroy());
}
