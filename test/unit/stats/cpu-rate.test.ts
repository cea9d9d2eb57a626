import assert from 'node:assert/strict';
import { CpuRate } from '../../../src/stats/cpu-rate';

describe('the rate of CPU time', () => {
  it('is known from the second reading on', () => {
    const rate = new CpuRate();
    assert.equal(rate.add(1000, 5e9), undefined);
    assert.equal(rate.add(3000, 6e9), 500_000_000);
  });

  it('is over a second and more, however often somebody asks', () => {
    const rate = new CpuRate();
    rate.add(0, 0);
    assert.equal(rate.add(1000, 1e9), 1e9);
    assert.equal(rate.add(1010, 1e9), (1e9 / 1010) * 1000);
    assert.equal(rate.add(1500, 1e9), (1e9 / 1500) * 1000);
    assert.equal(rate.add(2000, 1e9), 0);
  });

  it('is not made of two readings at once', () => {
    const rate = new CpuRate();
    rate.add(0, 0);
    assert.equal(rate.add(5, 5e6), undefined);
    assert.equal(rate.add(200, 1e8), 500_000_000);
  });

  it('begins anew when the counter does', () => {
    const rate = new CpuRate();
    rate.add(0, 9e9);
    assert.equal(rate.add(2000, 1e9), undefined);
    assert.equal(rate.add(4000, 2e9), 500_000_000);
  });
});
