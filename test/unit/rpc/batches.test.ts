import assert from 'node:assert/strict';
import { sendItems } from '../../../src/rpc/batches';

describe('a list that is sent as a stream', () => {
  /** The messages' bytes, as `encoded` has them. */
  async function sent(items: readonly Uint8Array[]): Promise<Buffer[]> {
    const messages: Buffer[] = [];
    await sendItems<{ bytes: Buffer }>(({ bytes }) => Promise.resolve(void messages.push(bytes)), items);
    return messages;
  }
  const item = (bytes: number, of: number) => new Uint8Array(bytes).fill(of);

  it('has every item once, in order, in messages of a megabyte at most, unless one alone is larger', async () => {
    const items = [700_000, 300_000, 50_000, 3_000_000, 1].map((bytes, i) => item(bytes, i));
    const messages = await sent(items);
    assert.deepEqual(
      messages.map(({ length }) => length),
      [1_000_000, 50_000, 3_000_000, 1],
    );
    assert.ok(Buffer.concat(messages).equals(Buffer.concat(items)));
  });

  it('has at most 500 items in a message, and no message without items', async () => {
    const messages = await sent(Array.from({ length: 1001 }, () => item(1, 7)));
    assert.deepEqual(
      messages.map(({ length }) => length),
      [500, 500, 1],
    );
    assert.deepEqual(await sent([]), []);
  });
});
