import type { Readable } from 'node:stream';

/** Fewer bytes than this in a whole period are a stall, so that a drip does not hold a pull for ever. */
const leastBytes = 1024;

/**
 * Destroys a stream that stands still although somebody reads it. Time in which
 * the reader was the one to wait for does not count.
 */
export class StallWatch implements Disposable {
  private readonly timer: NodeJS.Timeout;
  private readonly count = (chunk: Uint8Array) => void (this.bytes += chunk.length);
  private bytes = 0;

  constructor(
    private readonly stream: Readable,
    periodMs: number,
    readerIsBusy: () => boolean,
  ) {
    stream.on('data', this.count);
    this.timer = setInterval(() => {
      if (this.bytes < leastBytes && !readerIsBusy()) stream.destroy(stalled(periodMs));
      this.bytes = 0;
    }, periodMs);
  }

  [Symbol.dispose](): void {
    clearInterval(this.timer);
    this.stream.off('data', this.count);
  }
}

function stalled(periodMs: number): Error {
  return Object.assign(new Error(`next to nothing came for ${periodMs / 1000} s`), { code: 'ERR_STALLED' });
}
