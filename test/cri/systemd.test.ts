import assert from 'node:assert/strict';
import { rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { treeOf } from '../../src/cgroup/files';
import { berth } from '../cli/berth';
import { assertLimits, cgroupExists, cgroupFile, cgroupOf, hugepageFile, isInV2 } from '../support/cgroup-files';
import { CriClient } from '../support/cri-client';
import { TestDaemon } from '../support/daemon';
import { snapshot } from '../support/leaks';
import { refused, TestNode, useNode } from '../support/node';

const MIB = 1 << 20;
const SLICE = 'kubepods-burstable-podaf5b_01.slice';
const SLICE_PATH = `/kubepods.slice/kubepods-burstable.slice/${SLICE}`;

/** The slices above those of pods are the kubelet's, which takes them away itself. */
function removeKubepods({ daemon }: TestNode): void {
  for (const root of daemon.cgroupRoots) {
    for (const dir of [...treeOf(join(root, 'kubepods.slice'))].reverse()) rmdirSync(dir);
  }
}

/** With a systemd that is not the host's; test/vm has the same with the real one. */
describe('containers whose cgroups systemd makes', function () {
  this.timeout(60_000);
  after(() => removeKubepods(node()));
  const node = useNode({ systemd: 'fake' });
  const systemd = () => node().daemon.systemd ?? assert.fail('no systemd');
  const unitOf = (id: string) => systemd().units.get(`berth-${id}.scope`);

  it('are below a scope in the slice that the kubelet names; the driver is reported', async () => {
    assert.equal((await node().client.call('RuntimeConfig')).linux.cgroupDriver, 'SYSTEMD');
    const pod = await node().pod({ linux: { cgroupParent: SLICE } });
    const id = await node().start(pod, { resources: { memoryLimitInBytes: 32 * MIB } });
    const path = await cgroupOf(node(), id);
    assert.equal(path, `${SLICE_PATH}/berth-${id}.scope/container`);
    assert.equal(unitOf(id)?.properties.get('MemoryMax')?.value, BigInt(32 * MIB));
    assert.equal(await node().exec(id, ['echo', 'here']), 'here\n');
    await node().client.call('RemovePodSandbox', { podSandboxId: pod });
    assert.equal(unitOf(id), undefined);
    assert.equal(cgroupExists(node(), `${SLICE_PATH}/berth-${id}.scope`), false);
  });

  it('may have no parent that is no slice, and a pod without one has a slice of its own', async () => {
    await refused(
      node().pod({ linux: { cgroupParent: '/kubepods/pod1' } }),
      'INVALID_ARGUMENT',
      'cgroupDriver: systemd',
    );
    const pod = await node().pod({ linux: { resources: { memoryLimitInBytes: 64 * MIB } } });
    const slice = () => systemd().units.get(`berth-${pod}.slice`);
    assert.equal(slice()?.properties.get('MemoryMax')?.value, BigInt(64 * MIB));
    const id = await node().start(pod);
    assert.equal(await cgroupOf(node(), id), `/berth.slice/berth-${pod}.slice/berth-${id}.scope/container`);
    const resources = { memoryLimitInBytes: 96 * MIB };
    await node().client.call('UpdatePodSandboxResources', { podSandboxId: pod, resources });
    assert.equal(slice()?.properties.get('MemoryMax')?.value, BigInt(96 * MIB));
    await node().client.call('RemovePodSandbox', { podSandboxId: pod });
    assert.equal(slice(), undefined);
  });

  it('are changed in systemd, too', async () => {
    const id = await node().start(await node().pod({ linux: { cgroupParent: SLICE } }), {
      resources: { cpuShares: 512, cpuQuota: 20_000, cpuPeriod: 100_000 },
    });
    const isV2 = isInV2(node(), 'cpu');
    const valueOf = (property: string) => unitOf(id)?.properties.get(property)?.value;
    const linux = { cpuShares: 1024, cpuQuota: 50_000, cpuPeriod: 100_000, unified: {} };
    await node().client.call('UpdateContainerResources', { containerId: id, linux });
    assertLimits(node(), await cgroupOf(node(), id), { cpuShares: 1024, cpuQuota: 50_000 });
    assert.deepEqual([valueOf('CPUWeight'), valueOf('CPUShares')], isV2 ? [100n, undefined] : [undefined, 1024n]);
    assert.equal(valueOf('CPUQuotaPerSecUSec'), isV2 ? 500_000n : undefined);
    systemd().faults.refuses = 'SetUnitProperties';
    const asked = { containerId: id, linux: { cpuShares: 100 } };
    await refused(node().client.call('UpdateContainerResources', asked), 'INTERNAL', /change CPU(Weight|Shares) of/);
    const { status } = await node().client.call('ContainerStatus', { containerId: id });
    assert.equal(Number(status.resources?.linux?.cpuShares), 1024);
  });

  it('are OOMKilled also when their last process is the one that the kernel kills', async () => {
    const eat = 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done';
    const resources = { memoryLimitInBytes: 16 * MIB, memorySwapLimitInBytes: 16 * MIB };
    const { status } = await node().run(['sh', '-c', eat], {
      pod: await node().pod({ linux: { cgroupParent: SLICE } }),
      resources,
    });
    assert.equal(status.reason, 'OOMKilled');
    assert.match(status.message, /the container's limit of 16777216 bytes/);
  });

  it('are met again by the next daemon, and end as they would have', async () => {
    const pod = await node().pod({ linux: { cgroupParent: SLICE } });
    const id = await node().start(pod);
    await node().restart();
    assert.equal((await node().status(id)).state, 'CONTAINER_RUNNING');
    await node().client.call('StopContainer', { containerId: id, timeout: 0 });
    assert.equal((await node().status(id)).exitCode, 137);
    while (unitOf(id)) await sleep(5);
  });

  it('are not made when systemd refuses, which is said, and the next ones are', async () => {
    const pod = await node().pod({ linux: { cgroupParent: SLICE } });
    systemd().faults.refuses = 'StartTransientUnit';
    await refused(node().create(pod), 'INTERNAL', /start berth-[0-9a-f]+\.scope through systemd: .*refused/);
    const id = await node().start(pod, { command: ['sh', '-c', 'cat /proc/self/cgroup'] });
    assert.equal((await node().exit(id)).exitCode, 0);
  });

  it('of a person’s container are made again when that is started again', async () => {
    const berthed = async (...args: string[]) => {
      const ended = await berth(node().daemon.berthSocket, args);
      assert.equal(ended.code, 0, ended.stderr);
      return ended.stdout.trim();
    };
    const id = await berthed('run', '-d', '--name', 'again', node().box, 'sleep', '1000');
    assert.equal(unitOf(id)?.path, `/berth.slice/berth-${id}.slice/berth-${id}.scope`);
    await berthed('stop', '-t', '0', 'again');
    while (unitOf(id)) await sleep(5);
    await berthed('start', 'again');
    assert.equal(unitOf(id)?.state, 'active');
    assert.equal(await berthed('exec', 'again', 'echo', 'here'), 'here');
    await berthed('rm', '-f', 'again');
    assert.equal(unitOf(id), undefined);
    assert.equal(systemd().units.get(`berth-${id}.slice`), undefined);
  });

  it('see their own cgroup as the root, with their limits', async () => {
    const pod = await node().pod({ linux: { cgroupParent: SLICE } });
    const resources = { hugepageLimits: [{ pageSize: '2MB', limit: 4 * MIB }] };
    const id = await node().start(pod, { resources });
    assert.equal(cgroupFile(node(), await cgroupOf(node(), id), hugepageFile(node(), '2MB')), String(4 * MIB));
    const own = (await node().exec(id, ['cat', '/proc/self/cgroup'])).trim().split('\n');
    assert.ok(
      own.every(line => line.endsWith(':/')),
      own.join(),
    );
  });
});

describe('a cgroup driver', function () {
  this.timeout(120_000);

  it('is not changed while pods live, and the sentence names them and what to do', async () => {
    const node = await TestNode.start({ systemd: 'fake' });
    try {
      const pod = await node.pod();
      await node.daemon.stop();
      const text = '[runtime]\ncgroup_driver = "cgroupfs"\n';
      writeFileSync(node.daemon.configFile, text);
      const { code, said } = await node.daemon.runToEnd();
      assert.equal(code, 1);
      assert.match(said, /cgroup_driver = "cgroupfs" cannot be used while pods live .* made by systemd: test\/pod-1 /);
      assert.ok(said.includes(pod.slice(0, 12)), said);
      assert.match(said, /set it to "systemd" again, remove them \(drain the node; .*\), then switch/);
      // Nothing was asked for: it stays with the pods that live.
      writeFileSync(node.daemon.configFile, '');
      await node.daemon.run();
      node.client = new CriClient(node.daemon.socket);
      assert.equal((await node.client.call('RuntimeConfig')).linux.cgroupDriver, 'SYSTEMD');
      assert.match(node.daemon.log, /cgroup_driver stays systemd, not cgroupfs, as long as .*test\/pod-1/);
      await node.removeAll();
      await node.daemon.stop();
      writeFileSync(node.daemon.configFile, text);
      await node.daemon.run();
      node.client = new CriClient(node.daemon.socket);
      assert.equal((await node.client.call('RuntimeConfig')).linux.cgroupDriver, 'CGROUPFS');
    } finally {
      await node.stop();
    }
  });

  it('systemd is refused where there is none, with what to do', async () => {
    await using daemon = await TestDaemon.prepare();
    writeFileSync(daemon.configFile, '[runtime]\ncgroup_driver = "systemd"\n');
    const { code, said } = await daemon.runToEnd(['--state', daemon.state], {
      DBUS_SYSTEM_BUS_ADDRESS: 'unix:path=/none',
    });
    assert.equal(code, 1);
    assert.match(said, /systemd is not the init of this host: .*\/none.*set it to "cgroupfs", here and in the kubelet/);
  });
});

describe('a daemon that dies while systemd makes its cgroups', function () {
  this.timeout(120_000);

  for (const point of [
    'run.cgroup-made',
    'create.recorded',
    'create.cgroup-made',
    'exit.recorded',
    'rm.stopped',
  ] as const) {
    it(`at ${point} leaves nothing once the next has come`, async () => {
      const node = await TestNode.start({ systemd: 'fake' });
      try {
        await node.run(['true']);
        await node.removeAll();
        const clean = snapshot(node.daemon);
        node.client.close();
        await node.daemon.kill();
        await node.daemon.run([], { BERTH_CRASH_AT: point });
        node.client = new CriClient(node.daemon.socket);
        const life = async () => {
          const pod = await node.pod({ linux: point === 'run.cgroup-made' ? {} : { cgroupParent: SLICE } });
          const id = await node.start(pod, { command: ['true'] });
          await node.exit(id);
          await node.client.call('RemoveContainer', { containerId: id });
        };
        await assert.rejects(life());
        assert.equal(await node.daemon.ended(), 'SIGKILL');
        await node.daemon.run();
        await node.reconnect();
        await node.removeAll();
        removeKubepods(node);
        await node.assertNothingLeft({ ...clean, fds: snapshot(node.daemon).fds });
        assert.deepEqual(
          [...(node.daemon.systemd?.units.keys() ?? [])].filter(
            name => name.endsWith('.scope') || name.startsWith('berth-'),
          ),
          [],
        );
      } finally {
        await node.stop();
      }
    });
  }
});
