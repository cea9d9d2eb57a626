import assert from 'node:assert/strict';
import { DetachKeys } from '../../../src/cli/detach-keys';

describe('detach keys', () => {
  const typed = (...chunks: string[]) => typedTo(new DetachKeys(), chunks);
  const typedTo = (keys: DetachKeys, chunks: readonly string[]) => {
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

  it('are those that a person chooses', () => {
    const chosen = (keys: string, ...chunks: string[]) => typedTo(new DetachKeys(keys), chunks);
    assert.deepEqual(chosen('ctrl-a', 'x\x01'), ['x<left>']);
    assert.deepEqual(chosen('a,a,b', 'aaab'), ['a<left>']);
    assert.deepEqual(chosen('a,a,b', 'aac'), ['aac']);
    assert.throws(() => new DetachKeys('meta-x'), /--detach-keys "meta-x" are no keys; write them like ctrl-p,ctrl-q/);
  });

  it('hand everything else on', () => {
    assert.deepEqual(typed('ls\r', '\x10', 'x', '\x11'), ['ls\r', '', '\x10x', '\x11']);
    assert.deepEqual(typed('\x10\x10a'), ['\x10\x10a']);
  });
});
