import type { Duplex, Writable } from 'node:stream';

const waiting = new WeakMap<Writable, Promise<void>>();

/** Resolves when the stream takes more, or has closed. All who wait for one stream wait together. */
export function drained(stream: Duplex | Writable): Promise<void> {
  const known = waiting.get(stream);
  if (known) return known;
  if (stream.destroyed || !stream.writableNeedDrain) return Promise.resolve();
  const promise = new Promise<void>(resolve => {
    const done = () => {
      waiting.delete(stream);
      stream.off('drain', done).off('close', done);
      resolve();
    };
    stream.on('drain', done).on('close', done);
  });
  waiting.set(stream, promise);
  return promise;
}
