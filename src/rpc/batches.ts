import { encoded } from './encoded';

/** Clients of the CRI take messages of 16 MiB; one of these is far below, unless a single item is not. */
const BYTES_MAX = 1024 * 1024;
const ITEMS_MAX = 500;

/** Sends items, each the bytes of one field of a response, in messages that no client refuses for their size. */
export async function sendItems<Response>(
  send: (response: Response) => Promise<void>,
  items: Iterable<Uint8Array>,
): Promise<void> {
  for (const some of batches(items)) await send(encoded(Buffer.concat(some)));
}

/** Every item once. Without items there is no batch. */
function* batches(items: Iterable<Uint8Array>): Generator<Uint8Array[]> {
  let batch: Uint8Array[] = [];
  let bytes = 0;
  for (const item of items) {
    if (batch.length > 0 && (bytes + item.length > BYTES_MAX || batch.length === ITEMS_MAX)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(item);
    bytes += item.length;
  }
  if (batch.length > 0) yield batch;
}
