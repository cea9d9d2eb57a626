import assert from 'node:assert/strict';
import { endReason } from '../../../src/container/end-reason';

const exit = (exitCode: number, droppedBytes = 0n) => ({ exitCode, droppedBytes });
const oom = (kills: bigint, atLimit = true, above?: string) => ({
  events: () => ({ kills, atLimit }),
  limitReachedAbove: () => above,
});

describe('why a container ended', () => {
  it('is its exit code when the OOM killer had nothing to do with it', () => {
    assert.deepEqual(endReason(exit(0), oom(0n), 0n, 5n), { reason: 'Completed', message: '' });
    assert.deepEqual(endReason(exit(137), oom(0n), 0n, 5n), { reason: 'Error', message: '' });
    assert.equal(endReason(exit(0), oom(1n), 0n, 5n).reason, 'Completed');
    assert.equal(endReason(exit(1), oom(1n), 0n, 5n).reason, 'Error');
    assert.equal(endReason(exit(143), oom(1n), 0n, 5n).reason, 'Error');
  });

  it('is OOMKilled, with where the memory ran out', () => {
    assert.deepEqual(endReason(exit(137), oom(1n), 0n, 4096n), {
      reason: 'OOMKilled',
      message: "out of memory: the container's limit of 4096 bytes was reached",
    });
    assert.match(endReason(exit(137), oom(1n, false, 'pod'), 0n, 4096n).message, /the pod's limit was reached$/);
    assert.match(endReason(exit(137), oom(1n, false, '/kubepods'), 0n, 4096n).message, /limit of cgroup \/kubepods/);
    for (const end of [endReason(exit(137), oom(1n, false), 0n, 4096n), endReason(exit(137), oom(3n), 2n, 0n)]) {
      assert.equal(end.reason, 'OOMKilled');
      assert.match(end.message, /the node has no memory left/);
    }
  });

  it('is the stop that killed it, when the OOM killer came long before', () => {
    assert.equal(endReason(exit(137), oom(2n), 2n, 4096n).reason, 'Error');
  });

  it('tells of lost output besides', () => {
    assert.equal(endReason(exit(0, 7n), oom(0n), 0n, 0n).message, '7 bytes of output could not be written to the log');
    assert.match(endReason(exit(137, 7n), oom(1n), 0n, 9n).message, /^out of memory: .*; 7 bytes/);
  });
});
