import { createReadStream } from 'node:fs';
import { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { anySignal } from '../base/any-signal';
import { addon } from '../native/addon';
import type { BlobBytes } from './source';

/** A small pipe costs half of the speed: the threads at its ends wake each other for every chunk. */
const pipeBytes = 1024 * 1024;

/** The bytes as a stream of this thread's; when it ends, however it does, `bytes` are closed. */
export function streamOf(bytes: BlobBytes, signal: AbortSignal): Readable {
  return Readable.from(chunksOf(bytes, signal), { objectMode: false, highWaterMark: 1024 * 1024 });
}

async function* chunksOf(bytes: BlobBytes, signal: AbortSignal): AsyncGenerator<Buffer> {
  const given = new AbortController();
  try {
    if (bytes.file) {
      const options = { fd: bytes.file, autoClose: false, highWaterMark: 1024 * 1024 };
      yield* createReadStream('', options) as AsyncIterable<Buffer>;
    } else if (bytes.pipeTo) {
      const [readEnd, writeEnd] = addon().pipe(pipeBytes);
      const reader = new Socket({ fd: readEnd, readable: true, writable: false });
      const piped = bytes.pipeTo(writeEnd, anySignal([signal, given.signal]));
      piped.catch(() => undefined); // heard below, once the pipe is empty
      yield* reader as AsyncIterable<Buffer>;
      await piped;
    }
  } finally {
    given.abort();
    await bytes.close();
  }
}
