import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { LayerBytes } from './unpack/unpack';

/** A stream of this thread's as the bytes of a layer. */
export function readableBytes(stream: Readable): LayerBytes {
  let broken: Error | undefined;
  stream.once('error', error => (broken = error));
  return {
    offset: 0,
    async pipeTo(fd, signal) {
      const pipe = new Socket({ fd, readable: false, writable: true });
      if (broken) {
        pipe.destroy();
        throw broken;
      }
      await pipeline(stream, pipe, { signal });
    },
    close() {
      stream.destroy();
      return Promise.resolve();
    },
  };
}
