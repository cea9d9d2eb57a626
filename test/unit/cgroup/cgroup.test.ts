import assert from 'node:assert/strict';
import { directories, homeOf, parseHierarchies } from '../../../src/cgroup/hierarchies';

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
    const found = parseHierarchies(v2Only, () => ['cpu', 'memory']);
    assert.deepEqual(found, { v2: '/sys/fs/cgroup', v2Controllers: ['cpu', 'memory'], v1: [] });
    assert.deepEqual(homeOf(found, 'memory'), { version: 2, mountpoint: '/sys/fs/cgroup' });
    assert.equal(homeOf(found, 'hugetlb'), undefined);
    assert.deepEqual(directories(found, '/kubepods/x'), ['/sys/fs/cgroup/kubepods/x']);
  });

  it('are several on v1, each once, by its controllers', () => {
    const found = parseHierarchies(v1Only, () => assert.fail('there is no v2'));
    assert.deepEqual(found, {
      v2: undefined,
      v2Controllers: [],
      v1: [
        { controllers: ['cpu', 'cpuacct'], mountpoint: '/sys/fs/cgroup/cpu,cpuacct' },
        { controllers: ['memory'], mountpoint: '/sys/fs/cgroup/memory' },
        { controllers: ['name=systemd'], mountpoint: '/sys/fs/cgroup/systemd' },
      ],
    });
    assert.deepEqual(homeOf(found, 'cpuacct'), { version: 1, mountpoint: '/sys/fs/cgroup/cpu,cpuacct' });
  });

  it('are both on a hybrid host, where each controller is in one of them', () => {
    const found = parseHierarchies(hybrid, mountpoint => (mountpoint.endsWith('unified') ? ['hugetlb'] : []));
    assert.equal(homeOf(found, 'memory')?.version, 1);
    assert.deepEqual(homeOf(found, 'hugetlb'), { version: 2, mountpoint: '/sys/fs/cgroup/unified' });
    assert.equal(directories(found, '/a').length, 4);
  });

  it('may lie at paths with spaces', () => {
    assert.equal(parseHierarchies('1 2 0:3 / /with\\040space rw - cgroup2 none rw\n', () => []).v2, '/with space');
  });

  it('are an error when there is none', () => {
    assert.throws(
      () => parseHierarchies('23 28 0:22 / /proc rw,relatime - proc proc rw\n', () => []),
      /no cgroup tree is mounted/,
    );
  });
});
