import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { SingleFlight } from '../../../src/base/single-flight';

describe('SingleFlight', () => {
  it('runs once for all who ask meanwhile, and again afterwards', async () => {
    const flights = new SingleFlight<number>();
    let runs = 0;
    const work = async () => {
      await turn();
      return ++runs;
    };
    const together = [flights.run('a', work), flights.run('a', work), flights.run('b', work)];
    assert.equal(flights.has('a'), true);
    assert.deepEqual(await Promise.all(together), [1, 1, 2]);
    assert.equal(flights.has('a'), false);
    assert.equal(await flights.run('a', work), 3);
  });

  it('gives an error to all who asked, and forgets it', async () => {
    const flights = new SingleFlight<string>();
    const fail = async () => {
      await turn();
      throw new Error('boom');
    };
    const results = await Promise.allSettled([flights.run('a', fail), flights.run('a', fail)]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ['rejected', 'rejected'],
    );
    assert.equal(await flights.run('a', async () => 'fine'), 'fine');
  });
});
