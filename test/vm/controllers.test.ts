import './only-in-guest';
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawn } from 'node:child_process';
import { assertLimits, cgroupDir, cgroupExists, cgroupFile, cgroupOf, isInV2 } from '../support/cgroup-files';
import { refused, useNode } from '../support/node';

const MIB = 1 << 20;

/** Doubles a string until there is no memory for it. */
const EAT = 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done';

describe('with all controllers of cgroup v2, a container', function () {
  this.timeout(60_000);
  const node = useNode();
  before(function () {
    if (!isInV2(node(), 'memory')) this.skip();
  });
  const dirOf = (path: string) => cgroupDir(node(), 'unified', path);
  const start = async (resources: Record<string, unknown>, more: Record<string, unknown> = {}) =>
    node().start(await node().pod(), { resources, ...more });
  const update = (containerId: string, linux: Record<string, unknown>) =>
    node().client.call('UpdateContainerResources', { containerId, linux });

  it('has the kubelet’s memory qualities, swap, io and group kills by unified keys, and loses them all or none', async () => {
    const disk = readFileSync('/sys/block/nvme0n1/dev', 'utf8').trim();
    const unified = {
      'memory.min': String(2 * MIB),
      'memory.low': String(4 * MIB),
      'memory.high': String(48 * MIB),
      'memory.oom.group': '1',
      'io.max': `${disk} rbps=1048576 wiops=100`,
      'io.weight': 'default 200',
      'cpu.max.burst': '10000',
    };
    const id = await start({
      memoryLimitInBytes: 64 * MIB,
      memorySwapLimitInBytes: 80 * MIB,
      cpuQuota: 50_000,
      unified,
    });
    const path = await cgroupOf(node(), id);
    assertLimits(node(), path, { memory: 64 * MIB, memoryAndSwap: 80 * MIB, cpuQuota: 50_000 });
    const held = () => Object.fromEntries(Object.keys(unified).map(file => [file, cgroupFile(node(), path, file)]));
    const expected = { ...unified, 'io.max': `${disk} rbps=1048576 wbps=max riops=max wiops=100` };
    assert.deepEqual(held(), expected);
    await refused(
      update(id, {
        memoryLimitInBytes: 32 * MIB,
        unified: { 'memory.high': String(24 * MIB), 'io.max': '999:9 rbps=1' },
      }),
      'INVALID_ARGUMENT',
      'io.max=999:9 rbps=1',
    );
    assert.deepEqual(held(), expected);
    await update(id, { unified: { 'memory.high': 'max', 'io.max': `${disk} rbps=max wiops=max` } });
    assert.deepEqual(held(), { ...expected, 'memory.high': 'max', 'io.max': '' });
  });

  it('is killed as a whole with memory.oom.group, and the message names its limit', async () => {
    const resources = { memoryLimitInBytes: 16 * MIB, unified: { 'memory.oom.group': '1' } };
    const { status } = await node().run(['sh', '-c', `sh -c '${EAT}' 2>/dev/null; echo survived`], { resources });
    const { reason, exitCode, message } = status;
    assert.deepEqual({ reason, exitCode }, { reason: 'OOMKilled', exitCode: 137 });
    assert.match(message, /the container's limit of 16777216 bytes was reached/);
  });

  it('is told when it was the limit of a cgroup above its pod’s', async () => {
    mkdirSync(dirOf('/kube'));
    const pod = await node().pod({ linux: { cgroupParent: '/kube/pod' } });
    const id = await node().create(pod, { command: ['sh', '-c', EAT] });
    writeFileSync(join(dirOf('/kube'), 'memory.max'), String(24 * MIB));
    writeFileSync(join(dirOf('/kube'), 'memory.swap.max'), '0');
    await node().client.call('StartContainer', { containerId: id });
    const { reason, message } = await node().exit(id);
    assert.equal(reason, 'OOMKilled');
    assert.match(message, /the limit of cgroup \/kube, which the pod is in, was reached/);
    await node().removeAll();
    for (const path of ['/kube/pod', '/kube']) rmdirSync(dirOf(path));
  });

  it('may pass controllers on to cgroups below, beside which commands are run, and goes with them', async () => {
    const id = await start({ memoryLimitInBytes: 64 * MIB });
    const path = await cgroupOf(node(), id);
    const init = join(dirOf(path), 'init');
    mkdirSync(init);
    writeFileSync(join(init, 'cgroup.procs'), String(await node().pidOf(id)));
    writeFileSync(join(dirOf(path), 'cgroup.subtree_control'), '+memory +pids +cpu');
    assert.match(await node().exec(id, ['cat', '/proc/self/cgroup']), /^0::\/init$/m);
    await update(id, { memoryLimitInBytes: 80 * MIB });
    assertLimits(node(), path, { memory: 80 * MIB });
    await node().client.call('StopContainer', { containerId: id, timeout: 0 });
    await node().client.call('RemoveContainer', { containerId: id });
    assert.equal(cgroupExists(node(), path), false);
  });

  it('is refused below a threaded cgroup, by its name, and leaves nothing', async () => {
    mkdirSync(dirOf('/threaded/threads'), { recursive: true });
    writeFileSync(join(dirOf('/threaded/threads'), 'cgroup.type'), 'threaded');
    const cgroupParent = '/threaded/threads/pod';
    await refused(node().pod({ linux: { cgroupParent } }), 'FAILED_PRECONDITION', /\/threaded is threaded/);
    await node().removeAll();
    for (const path of [cgroupParent, '/threaded/threads', '/threaded']) {
      if (cgroupExists(node(), path)) rmdirSync(dirOf(path));
    }
  });

  it('runs below a cgroup that has processes, and is told why there are no limits', async () => {
    mkdirSync(dirOf('/busy'));
    const process = spawn('sleep', ['1000']);
    writeFileSync(join(dirOf('/busy'), 'cgroup.procs'), String(process.pid));
    try {
      const pod = await node().pod({ linux: { cgroupParent: '/busy' } });
      assert.equal(await node().exec(await node().start(pod), ['echo', 'here']), 'here\n');
      const resources = { memoryLimitInBytes: 64 * MIB };
      const why = /memory\.max=67108864 .*cgroup \S*\/busy does not pass memory on, since it has processes of its own/;
      await refused(node().create(pod, { resources }), 'FAILED_PRECONDITION', why);
    } finally {
      await node().removeAll();
      process.kill('SIGKILL');
      while (readFileSync(join(dirOf('/busy'), 'cgroup.procs'), 'utf8') !== '') await sleep(5);
      rmdirSync(dirOf('/busy'));
    }
  });

  it('leaves the options of the host’s cgroup2 as they are, a privileged one, too', async () => {
    const options = () => / - cgroup2 \S+ (.*)/.exec(readFileSync('/proc/self/mountinfo', 'utf8'))?.[1];
    const before = options();
    assert.match(before ?? '', /nsdelegate/);
    const security = { privileged: true };
    const { stdout } = await node().run(['sh', '-c', 'cat /sys/fs/cgroup/cgroup.controllers'], { security });
    assert.match(stdout, /memory/);
    assert.equal(options(), before);
  });

  it('has files of all controllers in its own view of the tree', async () => {
    const id = await start({ cpuShares: 512 });
    const seen = (await node().exec(id, ['ls', '/sys/fs/cgroup'])).trim().split('\n');
    const own = readdirSync(dirOf(await cgroupOf(node(), id)));
    assert.deepEqual(seen.sort(), own.sort());
    for (const file of [
      'cpu.weight',
      'memory.max',
      'io.max',
      'pids.max',
      'cpuset.cpus',
      'hugetlb.2MB.max',
      'memory.pressure',
    ])
      assert.ok(seen.includes(file), file);
  });
});
