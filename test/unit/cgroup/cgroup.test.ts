import assert from 'node:assert/strict';
import fc from 'fast-check';
import { directories, isUnified, parseHierarchies } from '../../../src/cgroup/hierarchies';
import { limitWrites, weightOfShares } from '../../../src/cgroup/limits';

const v2Only = `22 28 0:21 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
23 28 0:22 / /proc rw,relatime - proc proc rw
`;
const v1Only = `30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct
31 25 0:27 / /sys/fs/cgroup/memory rw,relatime shared:11 - cgroup cgroup rw,memory
32 25 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup systemd rw,xattr,name=systemd
33 25 0:27 /inner /elsewhere/memory rw,relatime - cgroup cgroup rw,memory
`;
const hybrid = `${v1Only}40 25 0:30 / /sys/fs/cgroup/unified rw,relatime master:3 propagate_from:2 - cgroup2 cgroup2 rw\n`;

describe('the cgroup trees of a host', () => {
  it('are one on v2', () => {
    const found = parseHierarchies(v2Only);
    assert.deepEqual(found, { v2: '/sys/fs/cgroup', v1: [] });
    assert.equal(isUnified(found), true);
    assert.deepEqual(directories(found, '/kubepods/x'), ['/sys/fs/cgroup/kubepods/x']);
  });

  it('are several on v1, each once, by its controllers', () => {
    const found = parseHierarchies(v1Only);
    assert.deepEqual(found, {
      v2: undefined,
      v1: [
        { controllers: ['cpu', 'cpuacct'], mountpoint: '/sys/fs/cgroup/cpu,cpuacct' },
        { controllers: ['memory'], mountpoint: '/sys/fs/cgroup/memory' },
        { controllers: ['name=systemd'], mountpoint: '/sys/fs/cgroup/systemd' },
      ],
    });
    assert.equal(isUnified(found), false);
  });

  it('are both on a hybrid host, with the controllers in v1', () => {
    const found = parseHierarchies(hybrid);
    assert.equal(found.v2, '/sys/fs/cgroup/unified');
    assert.equal(isUnified(found), false);
    assert.equal(directories(found, '/a').length, 4);
  });

  it('may lie at paths with spaces', () => {
    assert.equal(parseHierarchies('1 2 0:3 / /with\\040space rw - cgroup2 none rw\n').v2, '/with space');
  });

  it('are an error when there is none', () => {
    assert.throws(
      () => parseHierarchies('23 28 0:22 / /proc rw,relatime - proc proc rw\n'),
      /no cgroup tree is mounted/,
    );
  });
});

describe('limits', () => {
  const limits = {
    cpuShares: 1024n,
    cpuQuotaMicros: 50_000n,
    cpuPeriodMicros: 100_000n,
    cpusetCpus: '0-1',
    cpusetMems: '',
    memoryLimitBytes: 1n << 40n,
    pidsLimit: 5n,
  };
  const files = (unified: boolean) => limitWrites(limits, unified).map(({ file, value }) => `${file}=${value}`);

  it('are these files on v1', () => {
    assert.deepEqual(files(false), [
      'cpu.shares=1024',
      'cpu.cfs_period_us=100000',
      'cpu.cfs_quota_us=50000',
      'cpuset.cpus=0-1',
      'memory.limit_in_bytes=1099511627776',
      'pids.max=5',
    ]);
  });

  it('are these files on v2', () => {
    assert.deepEqual(files(true), [
      'cpu.weight=39',
      'cpu.max=50000 100000',
      'cpuset.cpus=0-1',
      'memory.max=1099511627776',
      'pids.max=5',
    ]);
  });

  it('are none when nothing is asked for', () => {
    for (const unified of [true, false]) assert.deepEqual(limitWrites({}, unified), []);
  });

  it('write no quota as "max" on v2 and -1 on v1', () => {
    assert.equal(limitWrites({ cpuQuotaMicros: -1n }, true)[0]?.value, 'max');
    assert.equal(limitWrites({ cpuQuotaMicros: -1n }, false)[0]?.value, '-1');
  });

  it('turn shares into weights that grow with them and stay in range', () => {
    assert.deepEqual([0n, 2n, 1024n, 262144n, 10n ** 12n].map(weightOfShares), [1n, 1n, 39n, 10000n, 10000n]);
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
