import assert from 'node:assert/strict';
import { DetachKeys } from '../../../src/cli/detach-keys';

describe('detach keys', () => {
  const typed = (...chunks: string[]) => {
    const keys = new DetachKeys();
    return chunks.map(chunk => {
      const { send, isLeaving } = keys.take(Buffer.from(chunk));
      return send.toString() + (isLeaving ? '<left>' : '');
    });
  };

  it('leave on Ctrl-P Ctrl-Q, in one piece or two', () => {
    assert.deepEqual(typed('a\x10\x11'), ['a<left>']);
    assert.deepEqual(typed('a\x10', '\x11b'), ['a', '<left>']);
    assert.deepEqual(typed('\x10\x10\x11'), ['\x10<left>']);
  });

  it('hand everything else on', () => {
    assert.deepEqual(typed('ls\r', '\x10', 'x', '\x11'), ['ls\r', '', '\x10x', '\x11']);
    assert.deepEqual(typed('\x10\x10a'), ['\x10\x10a']);
  });
});
