import assert from 'node:assert/strict';
import { DetachKeys } from '../../../src/cli/detach-keys';

describe('detach keys', () => {
  const typed = (...chunks: string[]) => {
    const keys = new DetachKeys();
    return chunks.map(chunk => keys.take(Buffer.from(chunk))?.toString());
  };

  it('leave on Ctrl-P Ctrl-Q, in one piece or two', () => {
    assert.deepEqual(typed('a\x10\x11'), [undefined]);
    assert.deepEqual(typed('a\x10', '\x11'), ['a', undefined]);
    assert.deepEqual(typed('\x10\x10\x11'), [undefined]);
  });

  it('hand everything else on', () => {
    assert.deepEqual(typed('ls\r', '\x10', 'x', '\x11'), ['ls\r', '', '\x10x', '\x11']);
    assert.deepEqual(typed('\x10\x10a'), ['\x10\x10a']);
  });
});
