import assert from 'node:assert/strict';
import { readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertLimits, cgroupFile, cgroupOf, hugepageFile, isInV2, type ExpectedLimits } from '../support/cgroup-files';
import { refused, useNode } from '../support/node';

const MIB = 1 << 20;

describe('UpdateContainerResources', function () {
  this.timeout(60_000);
  const node = useNode();
  const update = (containerId: string, linux: Record<string, unknown>) =>
    node().client.call('UpdateContainerResources', { containerId, linux });
  const resourcesOf = async (id: string) => (await node().status(id)).resources?.linux ?? {};

  async function limited(id: string, limits: ExpectedLimits): Promise<void> {
    assertLimits(node(), await cgroupOf(node(), id), limits);
  }

  it('changes what it sets, leaves the rest, and the status tells what holds', async () => {
    const id = await node().start(await node().pod(), {
      resources: { cpuShares: 512, cpuQuota: 50_000, cpuPeriod: 100_000, memoryLimitInBytes: 32 * MIB },
    });
    await update(id, { cpuShares: 256, cpusetCpus: '0' });
    await limited(id, {
      cpuShares: 256,
      cpus: '0',
      cpuQuota: 50_000,
      memory: 32 * MIB,
    });
    await update(id, { cpuQuota: 20_000, hugepageLimits: [{ pageSize: '2MB', limit: 2 * MIB }] });
    await limited(id, { cpuQuota: 20_000, cpuPeriod: 100_000 });
    const path = await cgroupOf(node(), id);
    assert.equal(cgroupFile(node(), path, hugepageFile(node(), '2MB')), String(2 * MIB));
    const resources = await resourcesOf(id);
    const { cpuShares, cpuQuota, cpuPeriod, cpusetCpus, memoryLimitInBytes, hugepageLimits } = resources;
    assert.deepEqual(
      { cpuShares, cpuQuota, cpuPeriod, cpusetCpus, memoryLimitInBytes, hugepageLimits },
      {
        cpuShares: '256',
        cpuQuota: '20000',
        cpuPeriod: '100000',
        cpusetCpus: '0',
        memoryLimitInBytes: String(32 * MIB),
        hugepageLimits: [{ pageSize: '2MB', limit: String(2 * MIB) }],
      },
    );
    await node().restart();
    assert.deepEqual(await resourcesOf(id), resources, 'also for the next daemon');
  });

  it('raises and lowers memory and swap together, in the order that the kernel takes', async () => {
    const id = await node().start(await node().pod(), {
      resources: { memoryLimitInBytes: 16 * MIB, memorySwapLimitInBytes: 16 * MIB },
    });
    for (const [memory, swap] of [
      [64, 64],
      [32, 128],
      [256, 256],
      [16, 16],
      [16, 32],
    ] as const) {
      await update(id, { memoryLimitInBytes: memory * MIB, memorySwapLimitInBytes: swap * MIB });
      await limited(id, {
        memory: memory * MIB,
        memoryAndSwap: swap * MIB,
      });
    }
    await update(id, { memoryLimitInBytes: -1, memorySwapLimitInBytes: -1 });
    await limited(id, { memory: 'max', memoryAndSwap: 'max' });
  });

  it('lets swap follow a memory limit that is raised alone, when none was allowed', async () => {
    const id = await node().start(await node().pod(), { resources: { memoryLimitInBytes: 16 * MIB } });
    await update(id, { memoryLimitInBytes: 64 * MIB });
    await limited(id, { memory: 64 * MIB, memoryAndSwap: 64 * MIB });
  });

  it('changes quota and period to each share of the CPU, whichever is the smaller, below a limited pod', async () => {
    const pod = await node().pod({ linux: { resources: { cpuQuota: 100_000, cpuPeriod: 100_000 } } });
    const id = await node().start(pod, { resources: { cpuQuota: 100_000, cpuPeriod: 100_000 } });
    for (const [cpuQuota, cpuPeriod] of [
      [10_000, 10_000],
      [500_000, 500_000],
      [5000, 500_000],
      [50_000, 50_000],
    ] as const) {
      await update(id, { cpuQuota, cpuPeriod });
      await limited(id, { cpuQuota, cpuPeriod });
    }
    // v2 holds a container to its pod's share whatever its own is.
    if (isInV2(node(), 'cpu')) return;
    await refused(update(id, { cpuQuota: 60_000 }), 'INVALID_ARGUMENT', 'cpu.cfs_quota_us=60000');
    await limited(id, { cpuQuota: 50_000, cpuPeriod: 50_000 });
  });

  it('sets all or nothing, and names the value that was refused', async () => {
    const id = await node().start(await node().pod(), {
      resources: { cpuShares: 512, memoryLimitInBytes: 32 * MIB },
    });
    const before = await resourcesOf(id);
    const tooMany = { cpuShares: 1024, cpuQuota: 30_000, cpusetCpus: '0-4000', memoryLimitInBytes: 64 * MIB };
    await refused(update(id, tooMany), 'INVALID_ARGUMENT', 'cpuset.cpus=0-4000');
    await refused(update(id, { cpuShares: 2, cpuPeriod: 5 }), 'INVALID_ARGUMENT', 'cpu_period 5');
    await refused(update(id, { cpuShares: 2, unified: { 'huge.high': '1' } }), 'FAILED_PRECONDITION', 'huge.high=1');
    await refused(
      update(id, { cpuShares: 2, memorySwapLimitInBytes: MIB }),
      'INVALID_ARGUMENT',
      'memory_swap_limit_in_bytes 1048576',
    );
    await limited(id, {
      cpuShares: 512,
      cpuQuota: 'max',
      memory: 32 * MIB,
      memoryAndSwap: 32 * MIB,
    });
    assert.deepEqual(await resourcesOf(id), before);
  });

  it('does not lower memory below what is in use', async () => {
    const id = await node().start(await node().pod(), {
      command: [
        'sh',
        '-c',
        'x=aaaaaaaa; i=0; while [ $i -lt 20 ]; do x=$x$x; i=$((i+1)); done; echo ready; sleep 1000 & wait',
      ],
      resources: { memoryLimitInBytes: 96 * MIB },
    });
    while ((await node().logLines(id)).length === 0) await sleep(5);
    await refused(
      update(id, { cpuShares: 99, memoryLimitInBytes: 2 * MIB }),
      'FAILED_PRECONDITION',
      /memory\.(limit_in_bytes|max)=2097152.*in use/,
    );
    await limited(id, { cpuShares: 1024, memory: 96 * MIB });
    assert.equal((await node().status(id)).state, 'CONTAINER_RUNNING');
  });

  it('is taken by a container that is created, and holds when it runs', async () => {
    const id = await node().create(await node().pod(), { resources: { memoryLimitInBytes: 16 * MIB } });
    await update(id, { memoryLimitInBytes: 48 * MIB });
    await node().client.call('StartContainer', { containerId: id });
    await limited(id, { memory: 48 * MIB });
    assert.equal((await resourcesOf(id))['memoryLimitInBytes'], String(48 * MIB));
  });

  it('is refused for a container that has exited, and for one that is not there', async () => {
    const id = await node().start(await node().pod(), { command: ['true'], resources: { cpuShares: 512 } });
    await node().exit(id);
    await refused(update(id, { cpuShares: 256 }), 'FAILED_PRECONDITION', 'is exited');
    assert.equal((await resourcesOf(id))['cpuShares'], '512');
    await refused(update('f'.repeat(64), { cpuShares: 256 }), 'NOT_FOUND');
  });

  it('needs resources, of Linux; annotations change nothing', async () => {
    const containerId = await node().start(await node().pod());
    const call = (request: object) => node().client.call('UpdateContainerResources', { containerId, ...request });
    await refused(call({}), 'INVALID_ARGUMENT', 'linux resources');
    await refused(call({ windows: { cpuShares: 1 } }), 'UNIMPLEMENTED', 'windows');
    await call({ linux: { cpuShares: 300 }, annotations: { 'example.com/x': 'y' } });
    await limited(containerId, { cpuShares: 300 });
    assert.deepEqual((await node().status(containerId)).annotations, {});
  });

  it('makes all processes of the container likelier to be killed, and what is run in it later', async () => {
    const id = await node().start(await node().pod(), {
      command: ['sh', '-c', 'sleep 1000 & wait'],
      resources: { oomScoreAdj: 500 },
    });
    await update(id, { oomScoreAdj: 700 });
    const scores = await node().exec(id, ['sh', '-c', 'cat /proc/[0-9]*/oom_score_adj']);
    assert.deepEqual(
      [...new Set(scores.trim().split('\n'))].filter(score => score !== '0'),
      ['700'],
    );
    assert.equal(readFileSync(`/proc/${await node().pidOf(id)}/oom_score_adj`, 'utf8'), '700\n');
    await refused(update(id, { oomScoreAdj: -1001 }), 'INVALID_ARGUMENT', 'oom_score_adj -1001');
  });

  it('is seen in the spec that inspection shows', async () => {
    const id = await node().start(await node().pod(), { resources: { memoryLimitInBytes: 16 * MIB } });
    await update(id, { cpuShares: 77, memoryLimitInBytes: 32 * MIB });
    const { info } = await node().client.call('ContainerStatus', { containerId: id, verbose: true });
    const { runtimeSpec } = JSON.parse(info['info'] ?? '{}') as {
      runtimeSpec: { linux: { resources: { cpu: object; memory: object; devices: object[] } } };
    };
    const { cpu, memory, devices } = runtimeSpec.linux.resources;
    assert.deepEqual({ cpu, memory }, { cpu: { shares: 77 }, memory: { limit: 32 * MIB, swap: 32 * MIB } });
    assert.ok(devices.length > 1);
  });

  it('may be called many times at once, and the status tells what the kernel has', async () => {
    const id = await node().start(await node().pod());
    await Promise.all(Array.from({ length: 20 }, (_, i) => update(id, { cpuShares: 100 + i })));
    await limited(id, { cpuShares: Number((await resourcesOf(id))['cpuShares']) });
  });
});

describe('UpdatePodSandboxResources', function () {
  this.timeout(60_000);
  const node = useNode();
  const update = (podSandboxId: string, request: Record<string, unknown>) =>
    node().client.call('UpdatePodSandboxResources', { podSandboxId, ...request });
  const cgroupOfPod = async (pod: string) => join(await cgroupOf(node(), await node().create(pod)), '..');

  it('changes the pod’s cgroup where it is berth’s own: its resources and its overhead', async () => {
    const pod = await node().pod({ linux: { resources: { cpuShares: 100, memoryLimitInBytes: 64 * MIB } } });
    const path = await cgroupOfPod(pod);
    await update(pod, { resources: { cpuShares: 200 }, overhead: { memoryLimitInBytes: 8 * MIB } });
    assertLimits(node(), path, { cpuShares: 200, memory: 72 * MIB });
    const { info } = await node().client.call('PodSandboxStatus', { podSandboxId: pod, verbose: true });
    const { resources, overhead } = JSON.parse(info['info'] ?? '{}') as Record<string, Record<string, string>>;
    assert.equal(resources?.['cpuShares'], '200');
    assert.equal(overhead?.['memoryLimitInBytes'], String(8 * MIB));
    await refused(update(pod, { resources: { cpuShares: 300, cpusetCpus: '9999' } }), 'INVALID_ARGUMENT', '9999');
    assertLimits(node(), path, { cpuShares: 200 });
    await node().restart();
    await update(pod, { resources: { memoryLimitInBytes: 32 * MIB } });
    assertLimits(node(), path, { memory: 40 * MIB });
  });

  it('leaves the kubelet’s cgroup alone, which it has changed itself', async () => {
    const cgroupParent = '/kubepods/pod-of-the-kubelet';
    const pod = await node().pod({ linux: { cgroupParent, resources: { cpuShares: 100 } } });
    await node().create(pod);
    await update(pod, { resources: { cpuShares: 200 } });
    assertLimits(node(), cgroupParent, { cpuShares: 1024 });
    await node().removeAll();
    for (const root of node().daemon.cgroupRoots) {
      for (const path of [cgroupParent, '/kubepods']) rmdirSync(join(root, path));
    }
  });

  it('is refused for a pod that is stopped or not there', async () => {
    const pod = await node().pod();
    await node().client.call('StopPodSandbox', { podSandboxId: pod });
    await refused(update(pod, { resources: { cpuShares: 200 } }), 'FAILED_PRECONDITION', 'not ready');
    await refused(update('f'.repeat(64), { resources: { cpuShares: 200 } }), 'NOT_FOUND');
  });
});
