import assert from 'node:assert/strict';
import { createLogger } from '../../../src/base/log';
import type { Container } from '../../../src/container/containers';
import { WritableLayers } from '../../../src/stats/writable-layers';

/** What is read of a container here. */
function container(id: string, state: 'running' | 'exited' = 'running'): Container {
  return { record: { id, state, finishedAtNs: 1n } } as unknown as Container;
}

const HOUR_MS = 3_600_000;

/** Does it as if it were an hour later. */
async function anHourLater<T>(work: () => Promise<T>): Promise<T> {
  const { now } = Date;
  Date.now = () => now() + HOUR_MS;
  try {
    return await work();
  } finally {
    Date.now = now;
  }
}

describe('what containers have written', () => {
  const all: Container[] = [];
  /** Calls that wait for their answer, the oldest first. */
  let asked: { trees: readonly string[]; answer: (bytes: number) => void }[];
  let layers: WritableLayers;

  beforeEach(() => {
    all.length = 0;
    asked = [];
    const paths = (id: string) => ({ dir: `/c/${id}`, upper: `/c/${id}/upper` });
    layers = new WritableLayers(
      { paths, list: () => all } as unknown as ConstructorParameters<typeof WritableLayers>[0],
      createLogger('error', 'text'),
      trees =>
        new Promise(resolve => {
          const answer = (bytes: number) => resolve(Float64Array.from(trees.flatMap(() => [bytes, 1])));
          asked.push({ trees, answer });
        }),
      HOUR_MS,
    );
  });

  const next = async () => {
    for (;;) {
      const first = asked.shift();
      if (first) return first;
      await new Promise(resolve => setImmediate(resolve));
    }
  };

  it('is counted in the writable layer and in the volumes', async () => {
    const one = container('one');
    const refreshed = layers.refresh([one]);
    const { trees, answer } = await next();
    assert.deepEqual(trees, ['/c/one/upper', '/c/one/volumes']);
    answer(512);
    await refreshed;
    assert.deepEqual([layers.of(one)?.bytes, layers.of(one)?.inodes], [1024, 2]);
  });

  it('is waited for no longer than it takes to count those that are asked for', async () => {
    const [one, large, other] = [container('one'), container('large'), container('other')];
    const first = layers.refresh([one]);
    const others = layers.refresh([large, other]);
    (await next()).answer(1);
    await first;
    assert.deepEqual([layers.of(one)?.bytes, layers.of(large)], [2, undefined]);
    (await next()).answer(1);
    (await next()).answer(1);
    await others;
  });

  it('is counted of those first that nobody knows, and then again of large ones', async () => {
    const large = container('large');
    const known = layers.refresh([large]);
    const { answer } = await next();
    // What takes a millisecond or more is large.
    const until = performance.now() + 2;
    while (performance.now() < until);
    answer(1);
    await known;
    const blocking = layers.refresh([container('blocking')]);
    await anHourLater(() => layers.refresh([large]));
    const fresh = layers.refresh([container('fresh')]);
    (await next()).answer(1);
    const { trees, answer: end } = await next();
    assert.equal(trees[0], '/c/fresh/upper');
    end(1);
    await Promise.all([blocking, fresh]);
    assert.equal((await next()).trees[0], '/c/large/upper');
  });

  it('is counted again only when the call that found it old has its answer', async () => {
    const known = container('known');
    const first = layers.refresh([known]);
    (await next()).answer(1);
    await first;
    await anHourLater(() => layers.refresh([known]));
    await new Promise(resolve => setImmediate(resolve));
    assert.equal(asked.length, 0);
    const { trees, answer } = await next();
    assert.equal(trees[0], '/c/known/upper');
    answer(1);
  });

  it('has the time of the oldest reading of one that may still write', async () => {
    const [ended, running] = [container('ended', 'exited'), container('running')];
    all.push(ended, running);
    const total = layers.total();
    (await next()).answer(1);
    (await next()).answer(10);
    await total;
    const endedAt = layers.of(ended)?.takenAtMs ?? assert.fail();
    const { takenAtMs } = await anHourLater(async () => {
      await layers.total();
      (await next()).answer(100);
      while (layers.of(running)?.bytes !== 200) await new Promise(resolve => setImmediate(resolve));
      return layers.total();
    });
    assert.ok(takenAtMs >= endedAt + HOUR_MS);
  });
});
