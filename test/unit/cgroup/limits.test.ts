import assert from 'node:assert/strict';
import fc from 'fast-check';
import { limitWrites, weightOfShares, type Limits } from '../../../src/cgroup/limits';

const all: Limits = {
  cpu: { shares: 1024n, quota: 50_000n, period: 100_000n, cpus: '0-1', mems: '0' },
  memory: { limit: 1n << 30n, swap: 3n << 29n },
  pids: { limit: 5n },
  hugepageLimits: [
    { pageSize: '2MB', limit: 4n << 20n },
    { pageSize: '1GB', limit: 0n },
  ],
};

/** As `file=value`, with `?` for one that may be missing. */
function files(limits: Limits, version: 1 | 2, other: Record<string, 1 | 2 | undefined> = {}): string[] {
  const versionOf = (controller: string) => (controller in other ? other[controller] : version);
  return limitWrites(limits, versionOf).map(
    ({ controller, file, value, ifThere }) => (
      assert.equal(file.split('.')[0], controller),
      `${file}=${value}${ifThere ? '?' : ''}`
    ),
  );
}

describe('limits', () => {
  it('are these files on v1, in this order', () => {
    assert.deepEqual(files(all, 1), [
      'cpu.shares=1024',
      'cpu.cfs_period_us=100000',
      'cpu.cfs_quota_us=50000',
      'cpuset.cpus=0-1',
      'cpuset.mems=0',
      'memory.limit_in_bytes=1073741824',
      'memory.memsw.limit_in_bytes=1610612736',
      'pids.max=5',
      'hugetlb.2MB.limit_in_bytes=4194304',
      'hugetlb.2MB.rsvd.limit_in_bytes=4194304?',
      'hugetlb.1GB.limit_in_bytes=0?',
      'hugetlb.1GB.rsvd.limit_in_bytes=0?',
    ]);
  });

  it('are these files on v2', () => {
    assert.deepEqual(files({ ...all, unified: { 'memory.oom.group': '1', 'io.max': '8:0 rbps=1' } }, 2), [
      'cpu.weight=100',
      'cpu.max=50000 100000',
      'cpuset.cpus=0-1',
      'cpuset.mems=0',
      'memory.max=1073741824',
      'memory.swap.max=536870912',
      'pids.max=5',
      'hugetlb.2MB.max=4194304',
      'hugetlb.2MB.rsvd.max=4194304?',
      'hugetlb.1GB.max=0?',
      'hugetlb.1GB.rsvd.max=0?',
      'memory.oom.group=1',
      'io.max=8:0 rbps=1',
    ]);
  });

  it('are none when nothing is asked for', () => {
    for (const version of [1, 2] as const) assert.deepEqual(files({}, version), []);
  });

  it('of v1 and v2 stand side by side on a hybrid host', () => {
    const limits = { memory: { limit: 4096n }, hugepageLimits: [{ pageSize: '2MB', limit: 1n }] };
    assert.deepEqual(files(limits, 1, { hugetlb: 2 }), [
      'memory.limit_in_bytes=4096',
      'hugetlb.2MB.max=1',
      'hugetlb.2MB.rsvd.max=1?',
    ]);
  });

  it('say no limit as each version has it', () => {
    const none: Limits = { cpu: { quota: -1n }, memory: { limit: -1n, swap: -1n }, pids: { limit: -1n } };
    assert.deepEqual(files(none, 1), [
      'cpu.cfs_quota_us=-1',
      'memory.limit_in_bytes=-1',
      'memory.memsw.limit_in_bytes=-1?',
      'pids.max=max',
    ]);
    assert.deepEqual(files(none, 2), ['cpu.max=max', 'memory.max=max', 'memory.swap.max=max?', 'pids.max=max']);
    assert.deepEqual(files({ cpu: { period: 50_000n } }, 2), ['cpu.max=max 50000']);
  });

  it('need no accounting of swap where no swap is allowed, or any is', () => {
    const swapFile = (swap: bigint, version: 1 | 2) => files({ memory: { limit: 100n, swap } }, version)[1];
    assert.equal(swapFile(100n, 1), 'memory.memsw.limit_in_bytes=100?');
    assert.equal(swapFile(100n, 2), 'memory.swap.max=0?');
    assert.equal(swapFile(-1n, 2), 'memory.swap.max=max?');
    assert.equal(swapFile(101n, 2), 'memory.swap.max=1');
    assert.equal(swapFile(101n, 1), 'memory.memsw.limit_in_bytes=101');
  });

  it('by unified keys are for controllers of v2, and name the one that is not', () => {
    const unified = (key: string) => ({ unified: { [key]: '1' } });
    assert.throws(() => files(unified('memory.high'), 1), /memory\.high=1: the memory controller .* cgroup v1/);
    assert.deepEqual(files(unified('hugetlb.2MB.max'), 1, { hugetlb: 2 }), ['hugetlb.2MB.max=1']);
    for (const key of ['cgroup.procs', 'cgroup.kill', 'memory', '../memory.max', 'memory/../x.y', 'a.b\0', '']) {
      assert.throws(() => files(unified(key), 2), /is no file of a cgroup v2 controller/, key);
    }
  });

  it('turn shares into weights that grow with them and stay in range', () => {
    assert.deepEqual([0n, 2n, 3n, 1024n, 262143n, 262144n, 10n ** 12n].map(weightOfShares), [
      1n,
      1n,
      2n,
      100n,
      10000n,
      10000n,
      10000n,
    ]);
    const share = fc.bigInt(2n, 262144n);
    fc.assert(
      fc.property(share, share, (a, b) => {
        const [low, high] = a < b ? [a, b] : [b, a];
        assert.ok(weightOfShares(low) <= weightOfShares(high));
        assert.ok(weightOfShares(low) >= 1n && weightOfShares(high) <= 10000n);
      }),
    );
  });
});
