import './only-in-guest';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cgroupOf } from '../support/cgroup-files';
import { CriClient } from '../support/cri-client';
import { refused, useNode } from '../support/node';

const MIB = 1 << 20;
const ROOT = '/sys/fs/cgroup';
const POD_SLICE = 'kubepods-burstable-podaf5b_01.slice';
const POD_PATH = `/kubepods.slice/kubepods-burstable.slice/${POD_SLICE}`;

const systemctl = (...args: string[]) => execFileSync('systemctl', args, { encoding: 'utf8' }).trim();
const shown = (unit: string, property: string) => systemctl('show', '--value', `--property=${property}`, unit);
const file = (path: string, name: string) => readFileSync(join(ROOT, path, name), 'utf8').trim();
const pidsIn = (path: string) => file(path, 'cgroup.procs').split('\n').filter(Boolean).map(Number);
const unitsOfBerth = () =>
  systemctl('list-units', '--all', '--plain', '--no-legend', 'berth-*.scope', 'berth-*.slice')
    .split('\n')
    .filter(Boolean);

/** systemd forgets a unit that has ended a moment later. */
async function noUnitIsLeft(): Promise<void> {
  while (unitsOfBerth().length > 0) await sleep(50);
}

/** With the real one, as PID 1, and the whole cgroup tree. */
describe('containers whose cgroups systemd makes', function () {
  this.timeout(120_000);
  /** As the kubelet makes it, with systemd, before it asks for the pod. */
  before(() => {
    for (const slice of ['kubepods.slice', 'kubepods-burstable.slice', POD_SLICE]) systemctl('start', slice);
  });
  after(() => systemctl('stop', 'kubepods.slice'));
  const node = useNode({ systemd: 'host' });
  const kubePod = () => node().pod({ linux: { cgroupParent: POD_SLICE } });
  const scope = (id: string) => `berth-${id}.scope`;
  const scopePath = (id: string) => `${POD_PATH}/${scope(id)}`;

  afterEach(async () => {
    await node().removeAll();
    await noUnitIsLeft();
    assert.deepEqual(
      readdirSync(join(ROOT, POD_PATH)).filter(name => name.startsWith('berth-')),
      [],
    );
  });
  it('are below a delegated scope in the slice that the kubelet has made, by its default driver', async () => {
    assert.equal((await node().client.call('RuntimeConfig')).linux.cgroupDriver, 'SYSTEMD');
    const id = await node().start(await kubePod());
    assert.equal(await cgroupOf(node(), id), `${scopePath(id)}/container`);
    assert.equal(shown(scope(id), 'ControlGroup'), scopePath(id));
    assert.equal(shown(scope(id), 'Delegate'), 'yes');
    assert.equal(shown(scope(id), 'ActiveState'), 'active');
    assert.equal(shown(scope(id), 'TasksMax'), 'infinity');
    assert.deepEqual(pidsIn(scopePath(id)), []);
    assert.equal(pidsIn(`${scopePath(id)}/hold`).length, 1);
    assert.ok(pidsIn(`${scopePath(id)}/container`).includes(await node().pidOf(id)));
  });

  it('have their limits in systemd and in the container’s own view', async () => {
    const id = await node().start(await kubePod(), {
      resources: {
        cpuShares: 1024,
        cpuQuota: 25_000,
        cpuPeriod: 50_000,
        cpusetCpus: '0',
        cpusetMems: '0',
        memoryLimitInBytes: 64 * MIB,
        memorySwapLimitInBytes: 64 * MIB,
        unified: { 'memory.high': String(48 * MIB), 'memory.min': '4096', 'memory.oom.group': '1', 'pids.max': '50' },
      },
    });
    const properties = {
      CPUWeight: '100',
      CPUQuotaPerSecUSec: '500ms',
      CPUQuotaPeriodUSec: '50ms',
      AllowedCPUs: '0',
      AllowedMemoryNodes: '0',
      MemoryMax: String(64 * MIB),
      MemoryHigh: String(48 * MIB),
      MemoryMin: '4096',
      MemorySwapMax: '0',
      TasksMax: '51',
    };
    for (const [name, value] of Object.entries(properties)) assert.equal(shown(scope(id), name), value, name);
    const inside = async (name: string) => (await node().exec(id, ['cat', `/sys/fs/cgroup/${name}`])).trim();
    const seen = {
      'cpu.weight': '100',
      'cpu.max': '25000 50000',
      'cpuset.cpus': '0',
      'memory.max': String(64 * MIB),
      'memory.high': String(48 * MIB),
      'memory.swap.max': '0',
      'memory.oom.group': '1',
      'pids.max': '50',
    };
    for (const [name, value] of Object.entries(seen)) assert.equal(await inside(name), value, name);
    for (const name of ['cpu.max', 'memory.max', 'memory.high']) {
      assert.equal(file(scopePath(id), name), seen[name as keyof typeof seen], `the scope's ${name}`);
    }
  });

  it('may open their own devices and no others, by both programs', async () => {
    const pod = await kubePod();
    const devices = [{ containerPath: '/dev/kmsg', hostPath: '/dev/kmsg', permissions: 'r' }];
    const security = { capabilities: { addCapabilities: ['SYSLOG', 'MKNOD'] } };
    const command = [
      'sh',
      '-c',
      ': < /dev/kmsg && echo kmsg; mknod /m c 1 1 && echo made; (: < /m) || echo closed; : < /dev/null && : > /dev/ptmx && echo usual',
    ];
    const { stdout } = await node().run(command, { pod, devices, security });
    assert.equal(stdout, 'kmsg\nmade\nclosed\nusual\n');
    const id = await node().start(pod);
    assert.equal(shown(scope(id), 'DevicePolicy'), 'strict');
    assert.match(shown(scope(id), 'DeviceAllow'), /\/dev\/char\/1:3 rwm/);
    const privileged = await node().run(['sh', '-c', ': < /dev/kmsg && echo kmsg'], {
      pod,
      security: { privileged: true },
    });
    assert.equal(privileged.stdout, 'kmsg\n');
  });

  it('keep changed limits when systemd is reloaded and started anew', async () => {
    const id = await node().start(await kubePod(), { resources: { memoryLimitInBytes: 64 * MIB, cpuShares: 512 } });
    const linux = { memoryLimitInBytes: 96 * MIB, cpuQuota: 30_000, cpuPeriod: 100_000 };
    await node().client.call('UpdateContainerResources', { containerId: id, linux });
    const check = async () => {
      assert.equal(shown(scope(id), 'MemoryMax'), String(96 * MIB));
      assert.equal(shown(scope(id), 'CPUQuotaPerSecUSec'), '300ms');
      assert.equal(file(scopePath(id), 'memory.max'), String(96 * MIB));
      assert.equal((await node().exec(id, ['cat', '/sys/fs/cgroup/memory.max'])).trim(), String(96 * MIB));
      assert.equal((await node().exec(id, ['cat', '/sys/fs/cgroup/cpu.max'])).trim(), '30000 100000');
    };
    await check();
    systemctl('daemon-reload');
    await check();
    systemctl('daemon-reexec');
    await check();
    assert.equal((await node().status(id)).state, 'CONTAINER_RUNNING');
  });

  it('are made, changed and removed while systemd is reloaded and started anew, and after its bus was', async () => {
    const pod = await kubePod();
    for (const disturbance of [['daemon-reload'], ['daemon-reexec'], ['restart', 'dbus.socket', 'dbus.service']]) {
      const starts = Promise.all(Array.from({ length: 3 }, () => node().start(pod)));
      systemctl(...disturbance);
      const ids = await starts;
      for (const id of ids) assert.equal(shown(scope(id), 'ActiveState'), 'active', disturbance.join(' '));
      const linux = { cpuShares: 2048 };
      await Promise.all(ids.map(containerId => node().client.call('UpdateContainerResources', { containerId, linux })));
      await Promise.all(ids.map(containerId => node().client.call('RemoveContainer', { containerId })));
      await noUnitIsLeft();
    }
  });

  it('are OOMKilled when the kernel kills all of them, with the limit in the message', async () => {
    const eat = 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done';
    const resources = {
      memoryLimitInBytes: 24 * MIB,
      memorySwapLimitInBytes: 24 * MIB,
      unified: { 'memory.oom.group': '1' },
    };
    const pod = await kubePod();
    for (let round = 0; round < 3; round++) {
      const { status } = await node().run(['sh', '-c', `sleep 1000 & ${eat}`], { pod, resources });
      assert.deepEqual([status.reason, status.exitCode], ['OOMKilled', 137]);
      assert.match(status.message, /the container's limit of 25165824 bytes/);
    }
  });

  it('are OOMKilled although no daemon was there', async () => {
    const id = await node().start(await kubePod(), {
      command: ['sh', '-c', 'while [ ! -e /dev/shm/go ]; do sleep 0.05; done; x=aaaaaaaa; while :; do x=$x$x; done'],
      resources: { memoryLimitInBytes: 24 * MIB, unified: { 'memory.oom.group': '1' } },
    });
    const pid = await node().pidOf(id);
    await node().exec(id, ['sh', '-c', '(sleep 1; touch /dev/shm/go) > /dev/null 2>&1 &']);
    node().client.close();
    await node().daemon.kill();
    while (existsSync(`/proc/${pid}`)) await sleep(20);
    await node().daemon.run();
    node().client = new CriClient(node().daemon.socket);
    assert.equal((await node().exit(id)).reason, 'OOMKilled');
  });

  it('of a pod without a parent are in a slice of its own, which is changed and removed', async () => {
    const pod = await node().pod({ linux: { resources: { memoryLimitInBytes: 128 * MIB, cpuShares: 512 } } });
    const slice = `berth-${pod}.slice`;
    const path = `/berth.slice/${slice}`;
    assert.equal(shown(slice, 'MemoryMax'), String(128 * MIB));
    assert.equal(file(path, 'memory.max'), String(128 * MIB));
    const id = await node().start(pod);
    assert.equal(shown(scope(id), 'ControlGroup'), `${path}/${scope(id)}`);
    const resources = { memoryLimitInBytes: 192 * MIB };
    await node().client.call('UpdatePodSandboxResources', { podSandboxId: pod, resources });
    systemctl('daemon-reload');
    assert.equal(file(path, 'memory.max'), String(192 * MIB));
    await node().client.call('RemovePodSandbox', { podSandboxId: pod });
    assert.equal(existsSync(join(ROOT, path)), false);
  });

  it('are stopped with their unit, whoever stops it, and the container has exited then', async () => {
    const id = await node().start(await kubePod());
    systemctl('stop', scope(id));
    const { state, exitCode } = await node().exit(id);
    assert.deepEqual([state, exitCode], ['CONTAINER_EXITED', 143]);
  });

  it('are the whole machine for a systemd inside: controllers can be passed on', async () => {
    const pod = await kubePod();
    const script = [
      'mount -o remount,rw /sys/fs/cgroup',
      'cd /sys/fs/cgroup && mkdir init && echo 1 > init/cgroup.procs && for p in $(cat cgroup.procs); do echo $p > init/cgroup.procs; done',
      'echo "+memory +pids" > cgroup.subtree_control && mkdir sub && cat sub/memory.max',
    ].join(' && ');
    const { stdout, stderr } = await node().run(['sh', '-c', script], {
      pod,
      security: { namespaceOptions: { pid: 'CONTAINER' }, capabilities: { addCapabilities: ['SYS_ADMIN'] } },
    });
    assert.equal(stdout, 'max\n', stderr);
  });

  it('of many at once are there without waiting for one another', async () => {
    const pod = await kubePod();
    const ids = await Promise.all(Array.from({ length: 20 }, () => node().start(pod)));
    for (const id of ids) assert.ok(existsSync(join(ROOT, scopePath(id))));
  });

  it('are told apart from what systemd cannot make', async () => {
    const pod = await kubePod();
    await refused(node().pod({ linux: { cgroupParent: '/kubepods/x' } }), 'INVALID_ARGUMENT', 'no slice of systemd');
    await refused(
      node().create(pod, { resources: { unified: { 'memory.high': 'much' } } }),
      'INVALID_ARGUMENT',
      'memory.high=much',
    );
  });
});
