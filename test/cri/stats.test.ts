import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readHierarchies } from '../../src/cgroup/hierarchies';
import { cgroupDir, cgroupFile, cgroupOf, hasV2, isInV2 } from '../support/cgroup-files';
import type { ContainerStats, PodSandboxStats } from '../support/cri-client';
import { refused, useNode } from '../support/node';

const MIB = 1 << 20;
const PATIENCE_MS = 30_000;

/** Takes readings until one is as it should be; the last one is the failure's. */
async function eventually<Reading>(read: () => Promise<Reading>, isRight: (reading: Reading) => boolean) {
  for (const until = Date.now() + PATIENCE_MS; ; await sleep(50)) {
    const reading = await read();
    if (isRight(reading)) return reading;
    assert.ok(Date.now() < until, `never so: ${JSON.stringify(reading)}`);
  }
}

const near = (a: number, b: number, within: number) => assert.ok(Math.abs(a - b) <= within, `${a} is not ${b}`);
const isRecent = (timestamp: string) => near(Number(timestamp) / 1e6, Date.now(), 60_000);

describe('stats of containers', function () {
  this.timeout(120_000);
  const node = useNode();
  const statsOf = async (id: string) => (await node().client.call('ContainerStats', { containerId: id })).stats;
  const list = async (filter?: object) => (await node().client.call('ListContainerStats', { filter })).stats;
  const ids = (stats: readonly ContainerStats[]) => stats.map(({ attributes }) => attributes.id).sort();

  it('are what the kernel counts', async () => {
    const labels = { app: 'web' };
    const annotations = { 'example.com/note': 'x'.repeat(300) };
    const id = await node().start(await node().pod(), {
      command: ['sh', '-c', 'head -c 20000000 /dev/zero | sha256sum; exec sleep 1000'],
      resources: { memoryLimitInBytes: 64 * MIB, memorySwapLimitInBytes: 96 * MIB },
      labels,
      annotations,
    });
    const path = await cgroupOf(node(), id);
    const { attributes, cpu, memory, swap } = await eventually(
      () => statsOf(id),
      stats => Number(stats.cpu?.usageCoreNanoSeconds.value) > 0 && Number(stats.memory?.rssBytes.value) > 0,
    );
    assert.ok(cpu && memory && swap);
    assert.equal(attributes.id, id);
    assert.deepEqual({ ...attributes.labels }, labels);
    assert.deepEqual({ ...attributes.annotations }, annotations);
    for (const { timestamp } of [cpu, memory, swap]) isRecent(timestamp);
    const file = isInV2(node(), 'memory') ? 'memory.current' : 'memory.usage_in_bytes';
    const used = Number(cgroupFile(node(), path, file));
    near(Number(memory.usageBytes.value), used, 8 * MIB);
    assert.ok(Number(memory.workingSetBytes.value) <= Number(memory.usageBytes.value));
    assert.equal(Number(memory.availableBytes?.value), 64 * MIB - Number(memory.workingSetBytes.value));
    assert.ok(Number(memory.pageFaults.value) > 0);
    assert.deepEqual(swap.swapUsageBytes, { value: '0' });
    assert.deepEqual(swap.swapAvailableBytes, { value: String(32 * MIB) });
  });

  it('have a rate of CPU time from the second reading on', async () => {
    const id = await node().start(await node().pod(), { command: ['sh', '-c', 'while :; do :; done'] });
    assert.equal((await statsOf(id)).cpu?.usageNanoCores, null);
    const { cpu } = await eventually(
      () => statsOf(id),
      stats => Number(stats.cpu?.usageNanoCores?.value) > 0,
    );
    // One busy thread: more than nothing, and not much more than a core.
    assert.ok(Number(cpu?.usageNanoCores?.value) < 1.5e9, cpu?.usageNanoCores?.value);
  });

  it('have the pressure that the kernel tells of', async function () {
    if (!hasV2(node())) this.skip(); // v1 has none
    const command = ['sh', '-c', 'while :; do :; done & while :; do :; done & while :; do :; done & wait'];
    const id = await node().start(await node().pod(), { command, resources: { cpuQuota: 10_000, cpuPeriod: 100_000 } });
    const { cpu, memory, io } = await eventually(
      () => statsOf(id),
      stats => Number(stats.cpu?.psi?.Some.Total) > 0 && Number(stats.cpu?.psi?.Some.Avg10) > 0,
    );
    assert.ok(cpu?.psi && memory?.psi && io?.psi);
    assert.ok(cpu.psi.Some.Avg10 <= 100);
    isRecent(io.timestamp);
    const path = await cgroupOf(node(), id);
    const micros = Number(
      /some .*total=(\d+)/.exec(readFileSync(join(cgroupDir(node(), 'unified', path), 'cpu.pressure'), 'utf8'))?.[1],
    );
    // What the kernel says now is not less than what it said before, in nanoseconds.
    assert.ok(Number(cpu.psi.Some.Total) <= micros * 1000 && Number(cpu.psi.Some.Total) > micros, String(micros));
  });

  it('are those of now when a container that was at rest has run, or has another limit', async () => {
    const id = await node().start(await node().pod(), {
      command: ['sleep', '1000'],
      resources: { memoryLimitInBytes: 64 * MIB },
    });
    const memoryOf = async () => {
      const { memory } = await statsOf(id);
      return (['usageBytes', 'pageFaults', 'availableBytes', 'workingSetBytes'] as const).map(of =>
        Number(memory?.[of]?.value),
      ) as [number, number, number, number];
    };
    // It runs nothing for longer than it takes to be known for that.
    for (let second = 0; second < 6; second++) {
      await memoryOf();
      await sleep(1000);
    }
    const [usage, faults] = await memoryOf();
    const write = ['sh', '-c', 'head -c 20000000 /dev/zero > /dev/shm/file'];
    const { exitCode } = await node().client.call('ExecSync', { containerId: id, cmd: write, timeout: 60 });
    assert.equal(exitCode, 0);
    const [after, faultsAfter] = await memoryOf();
    assert.ok(after > usage + 18_000_000, `${after} is not 20 MB more than ${usage}`);
    assert.ok(faultsAfter > faults, `${faultsAfter} is not more than ${faults}`);
    for (let second = 0; second < 6; second++) {
      await sleep(1000);
      await memoryOf();
    }
    await node().client.call('UpdateContainerResources', {
      containerId: id,
      linux: { memoryLimitInBytes: 128 * MIB },
    });
    const [, , available, workingSet] = await memoryOf();
    assert.equal(available, 128 * MIB - workingSet);
  });

  it('have what was written into the container, and keep it when that ends', async () => {
    const pod = await node().pod();
    const script =
      'mkdir -p /d/e && dd if=/dev/urandom of=/d/f bs=1M count=3 && ln /d/f /d/g && mknod /d/n p && exec sleep 1000';
    const id = await node().start(pod, { command: ['sh', '-c', script] });
    const read = async () => (await statsOf(id)).writableLayer;
    const written = await eventually(read, layer => Number(layer?.usedBytes.value) > 3 * MIB);
    assert.ok(written);
    isRecent(written.timestamp);
    near(Number(written.usedBytes.value), 3 * MIB, MIB / 2);
    const { imageFilesystems } = await node().client.call('ImageFsInfo');
    assert.equal(written.fsId.mountpoint, node().daemon.root);
    assert.equal(imageFilesystems.length, 1);
    await node().client.call('StopContainer', { containerId: id, timeout: 0 });
    const ended = await statsOf(id);
    assert.deepEqual([ended.cpu, ended.memory, ended.io], [null, null, null]);
    assert.ok(Number(ended.writableLayer?.usedBytes.value) > 3 * MIB);
    assert.ok(Number(ended.writableLayer?.inodesUsed.value) >= 5);
  });

  it('are of one container, by a prefix of its id, or none', async () => {
    const id = await node().start(await node().pod());
    assert.equal((await statsOf(id.slice(0, 20))).attributes.id, id);
    await refused(statsOf('nobody'), 'NOT_FOUND', /no container has the id "nobody"/);
  });

  it('are listed by id, pod and labels, and streamed, each once', async () => {
    const [one, two] = [await node().pod(), await node().pod()];
    const a = await node().start(one, { labels: { app: 'a', tier: 'x' } });
    const b = await node().create(one, { labels: { app: 'b', tier: 'x' } });
    const c = await node().start(two, { labels: { app: 'a', tier: 'y' } });
    const expected: [object | undefined, string[]][] = [
      [undefined, [a, b, c]],
      [{}, [a, b, c]],
      [{ id: a.slice(0, 12) }, [a]],
      [{ podSandboxId: one }, [a, b]],
      [{ labelSelector: { app: 'a' } }, [a, c]],
      [{ labelSelector: { app: 'a', tier: 'y' }, podSandboxId: two }, [c]],
      [{ id: a, podSandboxId: two }, []],
    ];
    for (const [filter, found] of expected) {
      assert.deepEqual(ids(await list(filter)), [...found].sort());
      const messages = (await node().client.allOf('StreamContainerStats', { filter })) as {
        containerStats: ContainerStats[];
      }[];
      assert.deepEqual(ids(messages.flatMap(({ containerStats }) => containerStats)), [...found].sort());
    }
    const created = (await list({ id: b }))[0];
    assert.ok(Number(created?.memory?.usageBytes.value) >= 0, 'its init waits for the start');
  });

  it('are there again after a restart', async () => {
    const id = await node().start(await node().pod());
    await node().restart();
    const stats = await statsOf(id);
    assert.ok(Number(stats.memory?.workingSetBytes.value) > 0);
    assert.ok(stats.writableLayer);
  });
});

describe('stats of pods', function () {
  this.timeout(120_000);
  const node = useNode();
  const statsOf = async (id: string) => (await node().client.call('PodSandboxStats', { podSandboxId: id })).stats;
  const list = async (filter?: object) => (await node().client.call('ListPodSandboxStats', { filter })).stats;
  const ids = (stats: readonly PodSandboxStats[]) => stats.map(({ attributes }) => attributes.id).sort();

  it('are those of its cgroup and of each container', async () => {
    const pod = await node().pod({ labels: { app: 'web' }, linux: { cgroupParent: '/kubepods/podX' } });
    const a = await node().start(pod, { command: ['sh', '-c', 'sleep 1000 & exec sleep 1000'] });
    const b = await node().start(pod);
    const { attributes, linux } = await eventually(
      () => statsOf(pod),
      stats => Number(stats.linux.process?.processCount.value) === 3,
    );
    assert.equal(attributes.id, pod);
    assert.deepEqual({ ...attributes.labels }, { app: 'web' });
    assert.deepEqual(linux.containers.map(({ attributes: { id } }) => id).sort(), [a, b].sort());
    assert.ok(linux.cpu && linux.memory);
    // All that there is of it is pressure, which v1 does not have.
    assert.equal(linux.io !== null, hasV2(node()));
    for (const { timestamp } of [linux.cpu, linux.memory, ...(linux.io ? [linux.io] : [])]) isRecent(timestamp);
    const sum = linux.containers.reduce((total, { memory }) => total + Number(memory?.usageBytes.value), 0);
    assert.ok(sum > 0 && Number(linux.memory.usageBytes.value) >= sum, 'the pod has what its containers have');
    await node().removeAll();
    for (const root of node().daemon.cgroupRoots) {
      for (const cgroup of ['kubepods/podX', 'kubepods']) rmdirSync(join(root, cgroup));
    }
  });

  it('are no error without a cgroup_parent', async () => {
    const pod = await node().pod();
    await node().start(pod);
    const { linux } = await statsOf(pod);
    assert.ok(Number(linux.memory?.usageBytes.value) > 0);
    assert.equal(linux.process?.processCount.value, '1');
  });

  it('have the traffic of each interface in the pod’s network, with containers in it or without', async () => {
    const pod = await node().pod();
    const id = await node().start(pod);
    const pid = await node().pidOf(id);
    const inPod = (...command: string[]) => execFileSync('nsenter', ['-t', String(pid), '-n', ...command]);
    assert.deepEqual((await statsOf(pod)).linux.network?.interfaces, []);
    for (const name of ['net1', 'eth0']) {
      inPod('ip', 'link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}-peer`);
      inPod('ip', 'link', 'set', name, 'up');
      inPod('ip', 'link', 'set', `${name}-peer`, 'up');
    }
    // A veth pair carries neighbour discovery as soon as it is up.
    const { network } = await eventually(
      async () => (await statsOf(pod)).linux,
      linux => Number(linux.network?.defaultInterface?.txBytes.value) > 0,
    );
    assert.ok(network?.defaultInterface);
    assert.equal(network.defaultInterface.name, 'eth0');
    assert.deepEqual(network.interfaces.map(({ name }) => name).sort(), ['eth0', 'eth0-peer', 'net1', 'net1-peer']);
    isRecent(network.timestamp);
    const [, kernel = ''] = /eth0:(.*)/.exec(readFileSync(`/proc/${pid}/net/dev`, 'utf8')) ?? [];
    const sent = Number(kernel.trim().split(/ +/)[8]);
    assert.ok(sent >= Number(network.defaultInterface.txBytes.value));
    await node().client.call('RemoveContainer', { containerId: id });
    assert.equal((await statsOf(pod)).linux.network?.interfaces.length, 4);
  });

  it('have no network where it is the host’s', async () => {
    const pod = await node().pod({
      linux: { securityContext: { namespaceOptions: { network: 'NODE', pid: 'CONTAINER' } } },
    });
    assert.equal((await statsOf(pod)).linux.network, null);
  });

  it('are of one pod, by a prefix of its id, or none', async () => {
    const pod = await node().pod();
    assert.equal((await statsOf(pod.slice(0, 20))).attributes.id, pod);
    await refused(statsOf('nobody'), 'NOT_FOUND', /no pod sandbox has the id "nobody"/);
  });

  it('are listed by id and labels while they are ready, and streamed', async () => {
    const [one, two] = [await node().pod({ labels: { app: 'a' } }), await node().pod({ labels: { app: 'b' } })];
    const expected: [object | undefined, string[]][] = [
      [undefined, [one, two]],
      [{ id: one.slice(0, 12) }, [one]],
      [{ labelSelector: { app: 'b' } }, [two]],
      [{ id: one, labelSelector: { app: 'b' } }, []],
    ];
    for (const [filter, found] of expected) {
      assert.deepEqual(ids(await list(filter)), [...found].sort());
      const messages = (await node().client.allOf('StreamPodSandboxStats', { filter })) as {
        podSandboxStats: PodSandboxStats[];
      }[];
      assert.deepEqual(ids(messages.flatMap(({ podSandboxStats }) => podSandboxStats)), [...found].sort());
    }
    await node().client.call('StopPodSandbox', { podSandboxId: one });
    assert.deepEqual(ids(await list()), [two]);
    const stopped = await statsOf(one);
    assert.deepEqual([stopped.linux.cpu, stopped.linux.network], [null, null]);
  });
});

(readHierarchies().v2 === undefined ? describe.skip : describe)('stats on a host with cgroup v2 alone', function () {
  this.timeout(120_000);
  const node = useNode({ cgroups: 'v2' });

  it('are those that its controllers have', async () => {
    const pod = await node().pod();
    await node().start(pod, { command: ['sh', '-c', 'while :; do :; done'] });
    const read = async () => (await node().client.call('PodSandboxStats', { podSandboxId: pod })).stats.linux;
    const { cpu, io, containers } = await eventually(read, linux => Number(linux.cpu?.usageCoreNanoSeconds.value) > 0);
    assert.ok(cpu?.psi && io?.psi);
    assert.ok(Number(containers[0]?.cpu?.usageCoreNanoSeconds.value) > 0);
  });
});
