import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Details } from '../../../src/cgroup/details';
import { Cgroups } from '../../../src/cgroup/groups';
import type { Hierarchies } from '../../../src/cgroup/hierarchies';

/** Plain files in place of a kernel's, as it writes them. */
describe('what metrics tell of a cgroup', () => {
  let root: string;
  const files = (content: Record<string, string>) => {
    for (const [file, text] of Object.entries(content)) {
      mkdirSync(dirname(join(root, file)), { recursive: true });
      writeFileSync(join(root, file), text);
    }
  };
  const detailsOf = async (hierarchies: Hierarchies) => {
    const [details] = await new Cgroups(hierarchies).details(['/c']);
    assert.ok(details);
    return details;
  };
  const wanted: Omit<Details, 'hugepages' | 'ownPageFaults' | 'ownMajorPageFaults'> = {
    userNs: 4_000_000,
    systemNs: 6_733_000,
    periods: 31,
    throttledPeriods: 7,
    throttledNs: 123_456_000,
    cacheBytes: 6_619_136,
    mappedFileBytes: 1_351_680,
    activeFileBytes: 4_202_496,
    kernelBytes: 725_000,
    peakBytes: 9_000_000,
    limitHits: 5,
    oomKills: 2,
    tasksMax: 100,
  };

  beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'berth-details-'))));
  afterEach(() => rmSync(root, { recursive: true }));

  it('is read from v1', async () => {
    files({
      'cpuacct/c/cpuacct.usage_user': '4000000\n',
      'cpuacct/c/cpuacct.usage_sys': '6733000\n',
      'cpu/c/cpu.stat': 'nr_periods 31\nnr_throttled 7\nthrottled_time 123456000\n',
      'memory/c/memory.stat': `cache 1\npgfault 9\npgmajfault 1\ntotal_cache 6619136\ntotal_mapped_file 1351680
total_active_file 4202496\ntotal_pgfault 1147\n`,
      'memory/c/memory.kmem.usage_in_bytes': '725000\n',
      'memory/c/memory.max_usage_in_bytes': '9000000\n',
      'memory/c/memory.failcnt': '5\n',
      'memory/c/memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 2\n',
      'pids/c/pids.max': '100\n',
    });
    const v1 = ['cpuacct', 'cpu', 'memory', 'pids'].map(name => ({
      controllers: [name],
      mountpoint: join(root, name),
    }));
    const details = await detailsOf({ v1, v2: undefined, v2Controllers: [] });
    assert.deepEqual(details, { ...wanted, ownPageFaults: 9, ownMajorPageFaults: 1, hugepages: [] });
  });

  it('is read from v2', async () => {
    files({
      'c/cpu.stat': `usage_usec 10733\nuser_usec 4000\nsystem_usec 6733\nnr_periods 31\nnr_throttled 7
throttled_usec 123456\n`,
      'c/memory.stat': 'file 6619136\nkernel 725000\nfile_mapped 1351680\nactive_file 4202496\n',
      'c/memory.peak': '9000000\n',
      'c/memory.events': 'low 0\nhigh 0\nmax 5\noom 2\noom_kill 2\noom_group_kill 0\n',
      'c/pids.max': '100\n',
    });
    const details = await detailsOf({ v1: [], v2: root, v2Controllers: ['cpu', 'memory', 'pids'] });
    assert.deepEqual(details, { ...wanted, ownPageFaults: undefined, ownMajorPageFaults: undefined, hugepages: [] });
  });

  it('has the host’s sizes of huge pages', async () => {
    files({ 'c/hugetlb.2MB.current': '4194304\n' });
    const { hugepages } = await detailsOf({ v1: [], v2: root, v2Controllers: ['hugetlb'] });
    // A machine without huge pages of that size does not look for the file.
    const isLookedFor = existsSync('/sys/kernel/mm/hugepages/hugepages-2048kB');
    assert.deepEqual(hugepages, isLookedFor ? [{ pageSize: '2MB', bytes: 4194304 }] : []);
  });
});
