import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Cgroups } from '../../../src/cgroup/groups';
import type { Hierarchies } from '../../../src/cgroup/hierarchies';
import { inOrder } from '../../../src/cgroup/update';

const V2 = ['cpu', 'cpuset', 'memory', 'pids', 'io', 'hugetlb'];

/** Plain files in place of a kernel's: what is read and written, not what the kernel makes of it. */
describe('the files of a host with cgroup v2 alone', () => {
  let root: string;
  const hierarchies = (): Hierarchies => ({ v2: root, v2Controllers: V2, v1: [] });
  const files = (path: string, content: Record<string, string>) => {
    for (const [file, text] of Object.entries(content)) {
      mkdirSync(dirname(join(root, path, file)), { recursive: true });
      writeFileSync(join(root, path, file), text);
    }
  };
  const text = (path: string, file: string) => readFileSync(join(root, path, file), 'utf8');

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'berth-v2-'));
  });
  afterEach(() => rmSync(root, { recursive: true }));

  it('are written for what the kubelet asks of a container', async () => {
    const names = ['cpu.weight', 'cpu.max', 'memory.max', 'memory.oom.group', 'memory.high', 'pids.max'];
    files('/pod/c', Object.fromEntries([...names, 'hugetlb.2MB.max', 'memory.swap.max'].map(name => [name, ''])));
    await new Cgroups(hierarchies()).limit('/pod/c', {
      cpu: { shares: 2n, quota: 5000n, period: 10_000n },
      memory: { limit: 4096n, swap: 4096n },
      pids: { limit: 10n },
      hugepageLimits: [{ pageSize: '2MB', limit: 0n }],
      unified: { 'memory.oom.group': '1', 'memory.high': '4000' },
    });
    assert.deepEqual(
      [...names, 'memory.swap.max', 'hugetlb.2MB.max'].map(name => text('/pod/c', name)),
      ['1', '5000 10000', '4096', '1', '4000', '10', '0', '0'],
    );
  });

  it('need no accounting of swap where none is allowed, and say so where some is', async () => {
    files('/c', { 'memory.max': '' });
    const cgroups = new Cgroups(hierarchies());
    await cgroups.limit('/c', { memory: { limit: 4096n, swap: 4096n } });
    await cgroups.limit('/c', { memory: { limit: 4096n, swap: -1n } });
    await assert.rejects(
      cgroups.limit('/c', { memory: { limit: 4096n, swap: 8192n } }),
      /memory\.swap\.max=4096 on cgroup .*no such file; the kernel lacks it/,
    );
    assert.equal(text('/c', 'memory.max'), '4096');
  });

  it('tell of the OOM killer, below the cgroup too, and whose limit it was', () => {
    const cgroups = new Cgroups(hierarchies());
    files('/c', {
      'memory.events': 'low 0\nhigh 0\nmax 9\noom 2\noom_kill 3\noom_group_kill 1\n',
      'memory.events.local': 'low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 0\n',
    });
    assert.deepEqual(cgroups.oomEvents('/c'), { kills: 3n, atLimit: false });
    files('/c', { 'memory.events.local': 'max 4\noom 1\noom_kill 1\n' });
    assert.deepEqual(cgroups.oomEvents('/c'), { kills: 3n, atLimit: true });
    assert.deepEqual(cgroups.oomEvents('/gone'), { kills: 0n, atLimit: false });
    assert.equal(cgroups.limitReachedAbove('/kube/pod/c'), undefined);
    files('/kube', { 'memory.events.local': 'max 4\noom 1\noom_kill 0\n' });
    assert.equal(cgroups.limitReachedAbove('/kube/pod/c'), '/kube');
    files('/kube/pod', { 'memory.events.local': 'max 4\noom 1\noom_kill 0\n' });
    assert.equal(cgroups.limitReachedAbove('/kube/pod/c'), '/kube/pod');
  });

  it('are not changed to less memory than is in use, which would end processes', async () => {
    const cgroups = new Cgroups(hierarchies());
    files('/c', {
      'memory.max': '9000\n',
      'memory.swap.max': '0\n',
      'memory.current': '8000\n',
      'memory.stat': 'anon 5000\nfile 3000\ninactive_file 2000\nactive_file 500\nslab_reclaimable 100\n',
    });
    const limit = (bytes: bigint) => cgroups.changeLimits('/c', { memory: { limit: bytes, swap: bytes } });
    await assert.rejects(limit(5399n), /memory\.max=5399 .*: 5400 bytes are in use/);
    assert.equal(text('/c', 'memory.max'), '9000\n');
    await limit(5400n);
    assert.equal(text('/c', 'memory.max'), '5400');
    await limit(-1n);
    assert.equal(text('/c', 'memory.max'), 'max');
  });

  it('are not written where they say it already, and are put back on demand', async () => {
    const cgroups = new Cgroups(hierarchies());
    files('/c', { 'cpu.weight': '1\n', 'cpu.max': 'max 100000\n' });
    const undo = await cgroups.changeLimits('/c', { cpu: { shares: 2n, quota: 7000n, period: 100_000n } });
    assert.equal(text('/c', 'cpu.weight'), '1\n');
    assert.equal(text('/c', 'cpu.max'), '7000 100000');
    await undo();
    assert.equal(text('/c', 'cpu.max'), 'max 100000');
  });
});

describe('the order of changes on v1', () => {
  const order = (...changes: [file: string, before: string, value: string][]) =>
    inOrder(
      changes.map(([file, before, value]) => ({
        limit: { controller: file.split('.')[0] ?? '', file, value, path: `/${file}`, root: '/' },
        before,
      })),
    ).map(({ limit }) => limit.file);
  const memory = (from: [string, string], to: [string, string]) =>
    order(
      ['cpu.shares', '1', '2'],
      ['memory.limit_in_bytes', from[0], to[0]],
      ['memory.memsw.limit_in_bytes', from[1], to[1]],
      ['pids.max', '1', '2'],
    ).slice(1, 3);
  const [limit, both] = ['memory.limit_in_bytes', 'memory.memsw.limit_in_bytes'];

  it('keeps memory below memory and swap all the time', () => {
    assert.deepEqual(memory(['10', '10'], ['20', '20']), [both, limit]);
    assert.deepEqual(memory(['20', '20'], ['10', '10']), [limit, both]);
    assert.deepEqual(memory(['20', '40'], ['30', '30']), [limit, both]);
    assert.deepEqual(memory(['9223372036854771712', '9223372036854771712'], ['10', '10']), [limit, both]);
    assert.deepEqual(memory(['10', '10'], ['-1', '-1']), [both, limit]);
  });

  it('keeps the share of the CPU below the larger of the two all the time', () => {
    const cpu = (from: [string, string], to: [string, string]) =>
      order(['cpu.cfs_period_us', from[1], to[1]], ['cpu.cfs_quota_us', from[0], to[0]]);
    const [period, quota] = ['cpu.cfs_period_us', 'cpu.cfs_quota_us'];
    assert.deepEqual(cpu(['100', '100'], ['500', '500']), [period, quota]);
    assert.deepEqual(cpu(['500', '500'], ['100', '100']), [quota, period]);
    assert.deepEqual(cpu(['-1', '100'], ['50', '10']), [quota, period]);
  });
});
