import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  assertLimits,
  cgroupDir,
  cgroupExists,
  cgroupFile,
  cgroupOf,
  hugepageFile,
  hasV2,
  isInV2,
  type ExpectedLimits,
} from '../support/cgroup-files';
import { startTimeOf } from '../../src/process/identity';
import { cgroupsBelow, processesIn } from '../support/processes';
import { refused, useNode } from '../support/node';

const MIB = 1 << 20;

describe('resources of containers', function () {
  this.timeout(60_000);
  const node = useNode();
  const limitsIn = async (resources: Record<string, unknown>, file: string) => {
    const id = await node().create(await node().pod(), { resources });
    return cgroupFile(node(), await cgroupOf(node(), id), file);
  };

  it('are what was asked for, before the container runs', async () => {
    const id = await node().create(await node().pod(), {
      resources: {
        cpuShares: 512,
        cpuQuota: 50_000,
        cpuPeriod: 20_000,
        cpusetCpus: '0',
        cpusetMems: '0',
        memoryLimitInBytes: 64 * MIB,
        memorySwapLimitInBytes: 96 * MIB,
      },
    });
    assertLimits(node(), await cgroupOf(node(), id), {
      cpuShares: 512,
      cpuQuota: 50_000,
      cpuPeriod: 20_000,
      cpus: '0',
      mems: '0',
      memory: 64 * MIB,
      memoryAndSwap: 96 * MIB,
    });
  });

  it('leave all as the kernel has it when nothing is asked for', async () => {
    const id = await node().create(await node().pod());
    assertLimits(node(), await cgroupOf(node(), id), { cpuShares: 1024, cpuQuota: 'max', memory: 'max', pids: 'max' });
  });

  it('have nothing of the daemon’s, which may be kept to some processors of its node', async function () {
    const processors = (status: string) => /^Cpus_allowed_list:\s+(\S+)$/m.exec(status)?.[1] ?? '';
    const daemon = String(node().daemon.pid);
    const all = processors(readFileSync(`/proc/${daemon}/status`, 'latin1'));
    const [first = ''] = /^\d+/.exec(all) ?? [];
    if (first === all) this.skip(); // there is one
    // Of all its threads; one may end meanwhile.
    const keepTo = (list: string) => spawnSync('taskset', ['-apc', list, daemon]);
    keepTo(first);
    try {
      const command = ['cat', '/proc/self/status'];
      assert.equal(processors((await node().run(command)).stdout), all);
      assert.equal(processors(await node().exec(await node().start(await node().pod()), command)), all);
    } finally {
      keepTo(all);
    }
  });

  it('allow no swap beside a memory limit, unless the request says how much', async () => {
    const pod = await node().pod();
    const expect = async (resources: Record<string, unknown>, limits: ExpectedLimits) =>
      assertLimits(node(), await cgroupOf(node(), await node().create(pod, { resources })), limits);
    await expect({ memoryLimitInBytes: 16 * MIB }, { memory: 16 * MIB, memoryAndSwap: 16 * MIB });
    await expect({ memoryLimitInBytes: 16 * MIB, memorySwapLimitInBytes: -1 }, { memoryAndSwap: 'max' });
  });

  it('limit huge pages by size, and need no limit of 0 for a size that the host lacks', async () => {
    const hugepageLimits = [
      { pageSize: '2MB', limit: 4 * MIB },
      { pageSize: '1GB', limit: 0 },
      { pageSize: '16KB', limit: 0 },
    ];
    const id = await node().create(await node().pod(), { resources: { hugepageLimits } });
    const path = await cgroupOf(node(), id);
    const limitOf = (size: string) => cgroupFile(node(), path, hugepageFile(node(), size));
    const limits = { '2MB': limitOf('2MB'), '2MB.rsvd': limitOf('2MB.rsvd') };
    assert.deepEqual(limits, { '2MB': String(4 * MIB), '2MB.rsvd': String(4 * MIB) });
    if (existsSync('/sys/kernel/mm/hugepages/hugepages-1048576kB')) assert.equal(limitOf('1GB'), '0');
    await refused(
      limitsIn({ hugepageLimits: [{ pageSize: '16KB', limit: MIB }] }, 'x'),
      'FAILED_PRECONDITION',
      `${hugepageFile(node(), '16KB')}=1048576`,
    );
  });

  it('take unified keys for the controllers that are in cgroup v2, and name the one that is not', async () => {
    const pages = { unified: { 'hugetlb.2MB.max': '2097152' } };
    if (isInV2(node(), 'hugetlb')) assert.equal(await limitsIn(pages, 'hugetlb.2MB.max'), '2097152');
    else await refused(limitsIn(pages, 'x'), 'FAILED_PRECONDITION', 'hugetlb controller');
    await refused(limitsIn({ unified: { 'cgroup.procs': '1' } }, 'x'), 'INVALID_ARGUMENT', 'cgroup.procs');
    await refused(limitsIn({ unified: { 'huge.max': '1' } }, 'x'), 'FAILED_PRECONDITION', 'no huge cgroup');
    const group = { unified: { 'memory.oom.group': '1' } };
    if (isInV2(node(), 'memory')) assert.equal(await limitsIn(group, 'memory.oom.group'), '1');
    else await refused(limitsIn(group, 'x'), 'FAILED_PRECONDITION', 'memory controller');
  });

  it('are refused when they make no sense, by name and value', async () => {
    for (const [resources, details] of [
      [{ cpuPeriod: 10 }, 'cpu_period 10'],
      [{ cpuQuota: 999 }, 'cpu_quota 999'],
      [{ cpuQuota: -2 }, 'cpu_quota -2'],
      [{ cpuShares: -1 }, 'cpu_shares -1'],
      [{ cpusetCpus: '0\n' }, 'cpuset_cpus'],
      [{ cpusetCpus: '4000' }, 'cpuset.cpus=4000'],
      [{ memoryLimitInBytes: -5 }, 'memory_limit_in_bytes -5'],
      [{ memoryLimitInBytes: 2 * MIB, memorySwapLimitInBytes: MIB }, 'memory_swap_limit_in_bytes 1048576'],
      [{ memorySwapLimitInBytes: MIB }, 'without a limit of memory_limit_in_bytes'],
      [{ hugepageLimits: [{ pageSize: '2/../MB', limit: 1 }] }, '2/../MB'],
      [{ oomScoreAdj: 1001 }, 'oom_score_adj 1001'],
    ] as const) {
      await refused(limitsIn(resources, 'x'), 'INVALID_ARGUMENT', details);
    }
    assert.deepEqual((await node().client.call('ListContainers')).containers, []);
  });

  it('hold the container to its devices', async function () {
    if (isInV2(node(), 'devices')) this.skip(); // what an eBPF program allows is no list
    const pod = await node().pod();
    const listOf = async (security: Record<string, unknown>) => {
      const path = await cgroupOf(node(), await node().create(pod, { security }));
      return cgroupFile(node(), path, 'devices.list').split('\n').sort();
    };
    const standard = ['1:3', '1:5', '1:7', '1:8', '1:9', '5:0', '5:2', '136:*'].map(numbers => `c ${numbers} rwm`);
    assert.deepEqual(await listOf({}), ['b *:* m', 'c *:* m', ...standard].sort());
    assert.deepEqual(await listOf({ privileged: true }), ['a *:* rwm']);
  });

  it('let it make a node of any device, on its root and on volumes, and open only its own', async () => {
    const dir = join(node().daemon.dir, 'nodes');
    mkdirSync(dir);
    const at = (place: string) => `mknod ${place}/m c 1 1 && mknod ${place}/z c 1 5 && head -c 1 ${place}/z | wc -c
      head -c 1 ${place}/m`;
    const { stdout, stderr } = await node().run(['sh', '-c', `${at('')}\n${at('/vol')}`], {
      mounts: [{ containerPath: '/vol', hostPath: dir }],
    });
    assert.equal(stdout, '1\n1\n');
    assert.match(stderr, /\/m: Operation not permitted[^]*\/vol\/m: Operation not permitted/);
  });

  it('hold a command that is run in it later, beside a first process that has moved below', async function () {
    if (!hasV2(node())) this.skip(); // v1 has processes beside cgroups
    const id = await node().start(await node().pod());
    const below = join(cgroupDir(node(), 'unified', await cgroupOf(node(), id)), 'init', 'scope');
    mkdirSync(below, { recursive: true });
    const place = async () => /^0::(.*)$/m.exec(await node().exec(id, ['cat', '/proc/self/cgroup']))?.[1];
    assert.equal(await place(), '/');
    writeFileSync(join(below, 'cgroup.procs'), String(await node().pidOf(id)));
    assert.equal(await place(), '/init/scope');
  });
});

describe('resources of pods', function () {
  this.timeout(60_000);
  const node = useNode({ config: '[runtime]\npids_limit = 20\npod_pids_limit = 30\n' });
  const cgroupOfPod = async (pod: string) => join(await cgroupOf(node(), await node().create(pod)), '..');

  it('are those of its containers and its overhead, where berth makes the cgroup', async () => {
    const pod = await node().pod({
      linux: {
        resources: { cpuShares: 100, cpuQuota: 50_000, cpuPeriod: 100_000, memoryLimitInBytes: 64 * MIB },
        overhead: { cpuShares: 28, cpuQuota: 10_000, cpuPeriod: 50_000, memoryLimitInBytes: 8 * MIB },
      },
    });
    const path = await cgroupOfPod(pod);
    assertLimits(node(), path, { cpuShares: 128, cpuQuota: 70_000, memory: 72 * MIB, pids: 30 });
  });

  it('are left to the kubelet in a cgroup of its', async () => {
    const cgroupParent = '/kubepods/burstable/pod-of-the-kubelet';
    const pod = await node().pod({ linux: { cgroupParent, resources: { cpuShares: 100 } } });
    assert.equal(await cgroupOfPod(pod), cgroupParent);
    assertLimits(node(), cgroupParent, { cpuShares: 1024 });
    await node().removeAll();
    assert.ok(cgroupExists(node(), cgroupParent), 'the kubelet removes it itself');
    for (const controller of node().daemon.cgroupRoots) {
      for (const path of [cgroupParent, '/kubepods/burstable', '/kubepods']) rmdirSync(join(controller, path));
    }
  });

  it('are refused with a parent that is no path of a cgroup', async () => {
    await refused(node().pod({ linux: { cgroupParent: '/a/../../b' } }), 'INVALID_ARGUMENT', '/a/../../b');
    await refused(node().pod({ linux: { cgroupParent: 'kubepods.slice' } }), 'INVALID_ARGUMENT', 'cgroupDriver');
    await refused(node().pod({ linux: { cgroupParent: '//' } }), 'INVALID_ARGUMENT', 'no cgroup of a pod');
  });

  it('limit the processes of a container, and of all together', async () => {
    const pod = await node().pod();
    const counts: number[] = [];
    for (let i = 0; i < 2; i++) {
      const id = await node().start(pod);
      const many = 'i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i+1)); done';
      const { exitCode } = await node().client.call('ExecSync', { containerId: id, cmd: ['sh', '-c', many] });
      assert.notEqual(exitCode, 0, 'the shell cannot fork any more');
      counts.push(Number(cgroupFile(node(), await cgroupOf(node(), id), 'pids.current')));
    }
    const [one = 0, other = 0] = counts;
    // The shell that reached the limit has ended meanwhile.
    assert.ok(one === 19 || one === 20, `${one} processes in a container`);
    assert.ok(one + other === 29 || one + other === 30, `${one} and ${other} processes in a pod`);
  });
});

describe('nothing of a container survives its stop', function () {
  this.timeout(60_000);
  const node = useNode({ config: '[runtime]\npids_limit = 200\n' });
  const HOST_PID = { namespaceOptions: { pid: 'NODE' } };
  const pidsIn = (path: string) => processesIn([cgroupDir(node(), 'pids', path)]);

  /** Waits for `count` processes, stops, and looks whether one of all that ever were seen is there. */
  async function stopsAll(id: string, count: number, timeout = 0): Promise<void> {
    const path = await cgroupOf(node(), id);
    let seen = pidsIn(path);
    for (; seen.length < count; seen = pidsIn(path)) await sleep(5);
    await node().client.call('StopContainer', { containerId: id, timeout });
    assert.deepEqual(
      seen.filter(pid => lives(pid, path)),
      [],
    );
    assert.equal((await node().status(id)).state, 'CONTAINER_EXITED');
  }

  /** A zombie that its parent has not looked after is nothing of the container's any more. */
  function lives(pid: number, path: string): boolean {
    try {
      return readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(path) && startTimeOf(pid) !== undefined;
    } catch {
      return false;
    }
  }

  it('when it forks twice, leaves its session and is in the host’s PID namespace', async () => {
    const script = '(setsid sh -c "(sleep 1000 &) ; exec sleep 1000" &); (sleep 1000 &); exec sleep 1000';
    const id = await node().start(await node().pod(), { command: ['sh', '-c', script], security: HOST_PID });
    await stopsAll(id, 4);
  });

  it('when its first process ends on the stop signal and the others do not', async () => {
    const script = 'trap "" TERM; (sleep 1000 &); trap "exit 0" TERM; echo ready; while :; do sleep 0.05; done';
    const id = await node().start(await node().pod(), { command: ['sh', '-c', script], security: HOST_PID });
    while ((await node().logLines(id)).length === 0) await sleep(5);
    await stopsAll(id, 2, 20);
    assert.equal((await node().status(id)).exitCode, 0);
  });

  it('when it is a fork bomb', async () => {
    // Shells give up when they cannot fork; awk goes on.
    const bomb = `busybox awk 'BEGIN { while (1) system("(sleep 0.2 &)") }'`;
    const id = await node().start(await node().pod(), {
      command: ['sh', '-c', `for i in 1 2 3; do ${bomb} 2>/dev/null & done; wait`],
      security: HOST_PID,
    });
    await stopsAll(id, 20);
  });

  it('when its processes are stopped by SIGSTOP', async () => {
    const id = await node().start(await node().pod(), { command: ['sh', '-c', 'sleep 1000 & sleep 1000 & wait'] });
    const path = await cgroupOf(node(), id);
    while (pidsIn(path).length < 3) await sleep(5);
    for (const pid of pidsIn(path)) process.kill(pid, 'SIGSTOP');
    await stopsAll(id, 3);
  });

  for (const [hierarchy, file, value] of [
    ['freezer', 'freezer.state', 'FROZEN'],
    ['unified', 'cgroup.freeze', '1'],
  ] as const) {
    it(`when it is frozen by ${file}`, async function () {
      if (hierarchy === 'freezer' ? isInV2(node(), 'freezer') : !hasV2(node())) this.skip();
      const id = await node().start(await node().pod(), { command: ['sh', '-c', 'sleep 1000 & wait'] });
      writeFileSync(join(cgroupDir(node(), hierarchy, await cgroupOf(node(), id)), file), value);
      await stopsAll(id, 2);
    });
  }

  it('when it has made cgroups below its own, which are removed, too', async () => {
    const id = await node().start(await node().pod(), { command: ['sh', '-c', 'sleep 1000 & wait'] });
    const path = await cgroupOf(node(), id);
    while (pidsIn(path).length < 2) await sleep(5);
    const pids = pidsIn(path);
    const hierarchies = [...(hasV2(node()) ? ['unified'] : []), 'pids', 'freezer'];
    const places = hierarchies.map(hierarchy => cgroupDir(node(), hierarchy, path));
    for (const place of new Set(places)) {
      const below = join(place, 'a', 'b');
      mkdirSync(below, { recursive: true });
      writeFileSync(join(below, 'cgroup.procs'), String(pids[1]));
    }
    assert.deepEqual(cgroupsBelow(cgroupDir(node(), 'pids', path)), ['a']);
    await stopsAll(id, 2);
    await node().client.call('RemoveContainer', { containerId: id });
    assert.equal(cgroupExists(node(), path), false);
  });

  it('when it has exited while no daemon was there', async () => {
    const id = await node().start(await node().pod(), {
      command: ['sh', '-c', '(setsid sleep 1000 &); sleep 1000'],
      security: HOST_PID,
    });
    const path = await cgroupOf(node(), id);
    while (pidsIn(path).length < 2) await sleep(5);
    const pids = pidsIn(path);
    const pid = await node().pidOf(id);
    await node().daemon.kill();
    process.kill(pid, 'SIGKILL');
    await node().restart();
    assert.equal((await node().exit(id)).exitCode, 137);
    while (cgroupExists(node(), path)) await sleep(5);
    assert.deepEqual(
      pids.filter(other => lives(other, path)),
      [],
    );
  });
});
