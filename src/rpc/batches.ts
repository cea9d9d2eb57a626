import { encoded } from './encoded';

/** Clients of the CRI take messages of 16 MiB; one of these is far below, unless a single item is not. */
const BYTES_MAX = 1024 * 1024;
const ITEMS_MAX = 500;

/** Every item once, in messages that no client refuses for their size. Without items there is no message. */
export function* batches<T>(items: Iterable<T>, bytesOf: (item: T) => number): Generator<T[]> {
  let batch: T[] = [];
  let bytes = 0;
  for (const item of items) {
    const own = bytesOf(item);
    if (batch.length > 0 && (bytes + own > BYTES_MAX || batch.length === ITEMS_MAX)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(item);
    bytes += own;
  }
  if (batch.length > 0) yield batch;
}

/** Sends items, each the bytes of one field of a response, in messages that no client refuses for their size. */
export async function sendItems<Response>(
  send: (response: Response) => Promise<void>,
  items: Iterable<Uint8Array>,
): Promise<void> {
  for (const some of batches(items, ({ length }) => length)) await send(encoded(Buffer.concat(some)));
}
