import './only-in-guest';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { directories, homeOf, readHierarchies } from '../../src/cgroup/hierarchies';
import { removeCgroup } from '../../src/cgroup/remove';
import {
  assertLimits,
  cgroupDir,
  cgroupDirs,
  cgroupExists,
  cgroupFile,
  cgroupOf,
  hasV2,
  isInV2,
} from '../support/cgroup-files';
import { CriClient } from '../support/cri-client';
import { TestDaemon } from '../support/daemon';
import { refused, useNode } from '../support/node';

const MIB = 1 << 20;
const POD_SLICE = 'kubepods-burstable-podaf5b_01.slice';
const POD_PATH = `/kubepods.slice/kubepods-burstable.slice/${POD_SLICE}`;

const systemctl = (...args: string[]) => execFileSync('systemctl', args, { encoding: 'utf8' }).trim();
const shown = (unit: string, property: string) => systemctl('show', '--value', `--property=${property}`, unit);
const unitsOfBerth = () =>
  systemctl('list-units', '--all', '--plain', '--no-legend', 'berth-*.scope', 'berth-*.slice')
    .split('\n')
    .filter(Boolean);

/** systemd forgets a unit that has ended a moment later. */
async function noUnitIsLeft(): Promise<void> {
  while (unitsOfBerth().length > 0) await sleep(50);
}

/** Of shares of 1024 and half a CPU. On v1 the container's own cgroup alone has the quota. */
const CPU_IN_V2 = { CPUWeight: '100', CPUQuotaPerSecUSec: '500ms', CPUQuotaPeriodUSec: '50ms' };
const CPU_IN_V1 = { CPUShares: '1024', CPUWeight: '[not set]', CPUQuotaPerSecUSec: 'infinity' };

/** Where a process is in each hierarchy; the order of v1's is not said. */
function membership(pid: number): string[] {
  const lines = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n');
  return lines.map(line => line.replace(/^\d+:/, '')).sort();
}

/** The pod's cgroup in each hierarchy, whether systemd knows of that or not, as the kubelet makes it. */
const podDirectories = () => directories(readHierarchies(), POD_PATH);

/** With the real one, as PID 1, and the whole cgroup tree, whichever version that is of. */
describe('containers whose cgroups systemd makes', function () {
  this.timeout(120_000);
  /** As the kubelet makes it, with systemd, before it asks for the pod. */
  before(() => {
    for (const slice of ['kubepods.slice', 'kubepods-burstable.slice', POD_SLICE]) systemctl('start', slice);
    for (const dir of podDirectories()) mkdirSync(dir, { recursive: true });
  });
  after(async () => {
    systemctl('stop', 'kubepods.slice');
    await removeCgroup(readHierarchies(), '/kubepods.slice');
  });
  const node = useNode({ systemd: 'host' });
  const kubePod = () => node().pod({ linux: { cgroupParent: POD_SLICE } });
  const scope = (id: string) => `berth-${id}.scope`;
  const scopePath = (id: string) => `${POD_PATH}/${scope(id)}`;
  const inner = (id: string) => `${scopePath(id)}/container`;
  /** Where systemd counts the processes of its units. */
  const tracked = (path: string) => cgroupDir(node(), hasV2(node()) ? 'unified' : 'systemd', path);
  const pidsIn = (path: string) =>
    readFileSync(join(tracked(path), 'cgroup.procs'), 'utf8')
      .split('\n')
      .filter(Boolean)
      .map(Number);
  const memoryQualities = (unified: Record<string, string>) => (isInV2(node(), 'memory') ? { unified } : {});
  const groupKill = () => memoryQualities({ 'memory.oom.group': '1' });
  const update = (containerId: string, linux: Record<string, unknown>) =>
    node().client.call('UpdateContainerResources', { containerId, linux });

  afterEach(async () => {
    await node().removeAll();
    await noUnitIsLeft();
    const left = podDirectories()
      .filter(existsSync)
      .flatMap(dir => readdirSync(dir).filter(name => name.startsWith('berth-')));
    assert.deepEqual(left, []);
  });

  it('are below a delegated scope in the slice that the kubelet has made, by its default driver', async () => {
    assert.equal((await node().client.call('RuntimeConfig')).linux.cgroupDriver, 'SYSTEMD');
    const id = await node().start(await kubePod());
    assert.equal(await cgroupOf(node(), id), inner(id));
    assert.equal(shown(scope(id), 'ControlGroup'), scopePath(id));
    assert.equal(shown(scope(id), 'Delegate'), 'yes');
    assert.equal(shown(scope(id), 'ActiveState'), 'active');
    assert.equal(shown(scope(id), 'TasksMax'), 'infinity');
    const first = await node().pidOf(id);
    assert.ok(pidsIn(inner(id)).includes(first));
    // v1 has processes beside cgroups.
    assert.deepEqual(
      [pidsIn(scopePath(id)).length, existsSync(tracked(`${scopePath(id)}/hold`))],
      hasV2(node()) ? [0, true] : [1, false],
    );
    // The kernel tells of v2 also where nobody has mounted it.
    const seen = membership(first).filter(line => hasV2(node()) || !line.startsWith(':'));
    assert.deepEqual(
      seen.filter(line => !line.endsWith(`:${inner(id)}`)),
      [],
    );
  });

  it('have their limits in systemd and in their own cgroup', async () => {
    const limits = { cpuShares: 1024, cpuQuota: 25_000, cpuPeriod: 50_000, cpus: '0', mems: '0', memory: 64 * MIB };
    const id = await node().start(await kubePod(), {
      resources: {
        cpuShares: 1024,
        cpuQuota: 25_000,
        cpuPeriod: 50_000,
        cpusetCpus: '0',
        cpusetMems: '0',
        memoryLimitInBytes: 64 * MIB,
        memorySwapLimitInBytes: 64 * MIB,
        ...memoryQualities({
          'memory.high': String(48 * MIB),
          'memory.min': '4096',
          'memory.oom.group': '1',
          ...(isInV2(node(), 'pids') ? { 'pids.max': '50' } : {}),
        }),
      },
    });
    const properties = {
      MemoryMax: String(64 * MIB),
      TasksMax: isInV2(node(), 'pids') ? '51' : 'infinity',
      ...(isInV2(node(), 'cpu') ? CPU_IN_V2 : CPU_IN_V1),
      ...(isInV2(node(), 'cpuset') ? { AllowedCPUs: '0', AllowedMemoryNodes: '0' } : {}),
      ...(isInV2(node(), 'memory')
        ? { MemoryHigh: String(48 * MIB), MemoryMin: '4096', MemorySwapMax: '0' }
        : { MemorySwapMax: 'infinity' }),
    };
    for (const [name, value] of Object.entries(properties)) assert.equal(shown(scope(id), name), value, name);
    assertLimits(node(), inner(id), { ...limits, memoryAndSwap: 64 * MIB });
    // Between the pod's and the container's there is nothing that holds it to less, nor on v1 what keeps it from more.
    const { memory, cpuQuota, cpuPeriod } = limits;
    assertLimits(node(), scopePath(id), isInV2(node(), 'cpu') ? { memory, cpuQuota, cpuPeriod } : { cpuQuota: 'max' });
    if (isInV2(node(), 'memory')) {
      assert.equal(cgroupFile(node(), inner(id), 'memory.oom.group'), '1');
      for (const at of [scopePath(id), inner(id)])
        assert.equal(cgroupFile(node(), at, 'memory.high'), String(48 * MIB), at);
    } else {
      assertLimits(node(), scopePath(id), { memory, cpuShares: 1024 });
    }
    const seen = isInV2(node(), 'pids') ? ['pids.max', '50\n'] : ['pids/pids.max', 'max\n'];
    assert.equal(await node().exec(id, ['cat', `/sys/fs/cgroup/${seen[0]}`]), seen[1]);
  });

  it('may open their own devices and no others, whoever is asked', async () => {
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
    if (isInV2(node(), 'devices')) {
      assert.equal(shown(scope(id), 'DevicePolicy'), 'strict');
      assert.match(shown(scope(id), 'DeviceAllow'), /\/dev\/char\/1:3 rwm/);
    }
    const privileged = await node().run(['sh', '-c', ': < /dev/kmsg && echo kmsg'], {
      pod,
      security: { privileged: true },
    });
    assert.equal(privileged.stdout, 'kmsg\n');
  });

  it('keep changed limits and their place in each hierarchy when systemd is reloaded and started anew', async () => {
    const pod = await kubePod();
    const id = await node().start(pod, {
      resources: { memoryLimitInBytes: 64 * MIB, cpuShares: 512, cpuQuota: 10_000 },
    });
    // Its cgroups are there before its processes are.
    const waiting = await node().create(pod);
    const privileged = await node().start(pod, { security: { privileged: true } });
    await update(id, { memoryLimitInBytes: 96 * MIB, cpuQuota: 30_000, cpuPeriod: 100_000 });
    const placed = await Promise.all([id, privileged].map(async one => membership(await node().pidOf(one))));
    const check = async () => {
      assert.equal(shown(scope(id), 'MemoryMax'), String(96 * MIB));
      const limits = { memory: 96 * MIB, cpuQuota: 30_000, cpuPeriod: 100_000, cpuShares: 512 };
      assertLimits(node(), inner(id), limits);
      assertLimits(node(), scopePath(id), isInV2(node(), 'cpu') ? limits : { memory: 96 * MIB, cpuShares: 512 });
      const now = await Promise.all([id, privileged].map(async one => membership(await node().pidOf(one))));
      assert.deepEqual(now, placed);
      assert.deepEqual(
        cgroupDirs(node(), inner(waiting)).filter(dir => !existsSync(dir)),
        [],
      );
    };
    await check();
    systemctl('daemon-reload');
    await check();
    systemctl('daemon-reexec');
    await check();
    // What makes systemd look at all of its tree, the root included.
    execFileSync('systemd-run', [
      '-q',
      '--wait',
      '-p',
      'CPUWeight=50',
      '-p',
      'IOWeight=50',
      '-p',
      'DeviceAllow=/dev/null',
      'true',
    ]);
    await check();
    assert.equal((await node().status(id)).state, 'CONTAINER_RUNNING');
    assert.equal(await node().exec(id, ['sh', '-c', ': < /dev/null && echo here']), 'here\n');
    await node().client.call('StartContainer', { containerId: waiting });
  });

  it('let the kubelet hold their pod to what they are held to', async () => {
    const pod = await kubePod();
    // An eighth of a CPU is no whole number of hundredths, which systemd counts in.
    const quota = { cpuQuota: 12_500, cpuPeriod: 100_000 };
    const id = await node().start(pod, { resources: { cpuQuota: 20_000, cpuPeriod: 100_000 } });
    await update(id, quota);
    const [file, value] = isInV2(node(), 'cpu') ? ['cpu.max', '12500 100000'] : ['cpu.cfs_quota_us', '12500'];
    const dir = cgroupDir(node(), 'cpu', POD_PATH);
    const before = readFileSync(join(dir, file), 'utf8');
    writeFileSync(join(dir, file), value);
    assertLimits(node(), POD_PATH, quota);
    writeFileSync(join(dir, file), before);
    await update(id, { cpuQuota: 80_000, cpuPeriod: 50_000 });
    assertLimits(node(), inner(id), { cpuQuota: 80_000, cpuPeriod: 50_000 });
  });

  it('are made, changed and removed while systemd is reloaded and started anew, and after its bus was', async () => {
    const pod = await kubePod();
    for (const disturbance of [['daemon-reload'], ['daemon-reexec'], ['restart', 'dbus.socket', 'dbus.service']]) {
      const starts = Promise.all(Array.from({ length: 3 }, () => node().start(pod)));
      systemctl(...disturbance);
      const ids = await starts;
      for (const id of ids) assert.equal(shown(scope(id), 'ActiveState'), 'active', disturbance.join(' '));
      await Promise.all(ids.map(id => update(id, { cpuShares: 2048, cpuQuota: 50_000 })));
      for (const id of ids) assertLimits(node(), inner(id), { cpuShares: 2048, cpuQuota: 50_000 });
      await Promise.all(ids.map(containerId => node().client.call('RemoveContainer', { containerId })));
      await noUnitIsLeft();
    }
  });

  it('are OOMKilled when the kernel kills all of them, with the limit in the message', async () => {
    const eat = 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done';
    const resources = {
      memoryLimitInBytes: 24 * MIB,
      memorySwapLimitInBytes: 24 * MIB,
      ...groupKill(),
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
      resources: { memoryLimitInBytes: 24 * MIB, ...groupKill() },
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
    const asked = { memoryLimitInBytes: 128 * MIB, cpuShares: 512, cpuQuota: 50_000, cpuPeriod: 100_000 };
    const pod = await node().pod({ linux: { resources: asked } });
    const slice = `berth-${pod}.slice`;
    const path = `/berth.slice/${slice}`;
    assert.equal(shown(slice, 'MemoryMax'), String(128 * MIB));
    const cpu = { cpuShares: 512, cpuQuota: 50_000, cpuPeriod: 100_000 };
    assertLimits(node(), path, { ...cpu, memory: 128 * MIB });
    const id = await node().start(pod);
    assert.equal(shown(scope(id), 'ControlGroup'), `${path}/${scope(id)}`);
    const resources = { memoryLimitInBytes: 192 * MIB };
    await node().client.call('UpdatePodSandboxResources', { podSandboxId: pod, resources });
    systemctl('daemon-reload');
    assertLimits(node(), path, { ...cpu, memory: 192 * MIB });
    await node().client.call('RemovePodSandbox', { podSandboxId: pod });
    assert.equal(cgroupExists(node(), path), false);
  });

  it('are stopped with their unit, whoever stops it, and the container has exited then', async () => {
    const id = await node().start(await kubePod());
    systemctl('stop', scope(id));
    const { state, exitCode } = await node().exit(id);
    assert.deepEqual([state, exitCode], ['CONTAINER_EXITED', 143]);
  });

  it('are the whole machine for a systemd inside: controllers can be passed on', async function () {
    if (!isInV2(node(), 'memory')) this.skip(); // v1 has nothing to pass on
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
    for (const id of ids)
      assert.deepEqual(
        cgroupDirs(node(), inner(id)).filter(dir => !existsSync(dir)),
        [],
      );
  });

  it('are told apart from what systemd cannot make', async () => {
    const pod = await kubePod();
    await refused(node().pod({ linux: { cgroupParent: '/kubepods/x' } }), 'INVALID_ARGUMENT', 'no slice of systemd');
    const asked = node().create(pod, { resources: { unified: { 'memory.high': 'much' } } });
    const [code, why] = isInV2(node(), 'memory')
      ? (['INVALID_ARGUMENT', 'memory.high=much'] as const)
      : (['FAILED_PRECONDITION', 'memory controller of this host is in cgroup v1'] as const);
    await refused(asked, code, why);
  });
});

/** systemd 252 was seen to move them when a unit with DeviceAllow= was started. */
describe('cgroups that berth makes beside systemd', function () {
  this.timeout(120_000);

  it('may lose their processes on v1, of which the log warns', async () => {
    await using daemon = await TestDaemon.start({ systemd: 'host', config: '[runtime]\ncgroup_driver = "cgroupfs"\n' });
    const isV1 = homeOf(readHierarchies(), 'devices') !== undefined;
    assert.equal(daemon.log.includes('systemd may move processes of containers out of them'), isV1);
  });
});
