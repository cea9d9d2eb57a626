import assert from 'node:assert/strict';
import type { Container, Containers } from '../../../src/container/containers';
import { endOf } from '../../../src/container/exec-sync';
import { checkOf } from '../../../src/container/health';
import { RunOptions } from '../../../src/cri/generated/berth/v1/run';

describe('how health is checked', () => {
  const images = { find: () => undefined } as unknown as Containers['images'];
  const check = (health: object) => {
    const options = RunOptions.fromPartial({ health: { command: 'true', ...health } });
    return checkOf({ images }, { record: { owner: 'person' }, options } as unknown as Container);
  };

  it('at times that timers can keep, however long somebody wants them', () => {
    const years = 10n ** 18n;
    const found = check({ intervalNs: years, timeoutNs: years, startPeriodNs: years, startIntervalNs: years });
    const longest = 2 ** 31 - 1;
    assert.deepEqual(
      [found?.intervalMs, found?.timeoutMs, found?.startPeriodMs, found?.startIntervalMs],
      [longest, longest, longest, longest],
    );
    endOf((found?.timeoutMs ?? NaN) / 1000);
  });

  it('at times with fractions of a second', () => {
    const found = check({ timeoutNs: 16_100_000_000n });
    assert.equal(found?.timeoutMs, 16_100);
    assert.equal(endOf(found.timeoutMs / 1000)?.aborted, false);
    assert.equal(endOf(0), undefined);
  });
});
