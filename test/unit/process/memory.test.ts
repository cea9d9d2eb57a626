import assert from 'node:assert/strict';
import { createLogger } from '../../../src/base/log';
import { keepMemorySmall } from '../../../src/process/memory';

const MB = 1024 * 1024;

/** Looks at a process that has these sizes, one a look; after each what has been released until then. */
async function releasesAt(sizes: readonly number[], isBroken = false): Promise<number[]> {
  const counts: number[] = [];
  let at = 0;
  let released = 0;
  await new Promise<void>(resolve => {
    const stop = keepMemorySmall(createLogger('error', 'text'), {
      resident: () => (sizes[at] ?? 0) * MB,
      release: async () => {
        released++;
        if (isBroken) throw new Error('too many open files');
      },
      rest: async () => {
        if (at++ > 0) counts.push(released);
        if (at < sizes.length) return;
        stop();
        resolve();
        await new Promise(() => undefined);
      },
    });
  });
  return counts;
}

describe('memory', () => {
  it('is given back after the start', async () => {
    assert.deepEqual(await releasesAt([75, 45, 45]), [1, 1]);
  });

  it('is given back when the daemon has grown since it was smallest, and not otherwise', async () => {
    assert.deepEqual(await releasesAt([75, 45, 54, 50, 46]), [1, 1, 1, 1]);
    assert.deepEqual(await releasesAt([75, 45, 60, 60, 69, 70, 70]), [1, 2, 2, 2, 3, 3]);
    assert.deepEqual(await releasesAt([75, 60, 40, 49, 50, 50]), [1, 1, 1, 2, 2]);
  });

  it('is looked at again where it could not be given back', async () => {
    assert.deepEqual(await releasesAt([75, 45, 60, 70, 70], true), [1, 2, 3, 3]);
  });

  it('is looked at no more once that has ended', async () => {
    let rests = 0;
    const stop = keepMemorySmall(createLogger('error', 'text'), {
      release: () => assert.fail('released'),
      rest: (_ms, signal) =>
        new Promise((_resolve, reject) => {
          rests++;
          signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true });
        }),
    });
    stop();
    await new Promise(resolve => setImmediate(resolve));
    assert.equal(rests, 1);
  });
});
