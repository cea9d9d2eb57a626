import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readHierarchies } from '../../src/cgroup/hierarchies';
import { startTimeOf } from '../../src/process/identity';
import { cgroupDir, cgroupExists, cgroupFile, cgroupOf } from '../support/cgroup-files';
import { refused, useNode } from '../support/node';

const MIB = 1 << 20;

/** As on a host with v2 alone, though with few controllers where the machine has v1, too. */
(readHierarchies().v2 === undefined ? describe.skip : describe)(
  'on a host with cgroup v2 alone, a container',
  function () {
    this.timeout(60_000);
    const node = useNode({ cgroups: 'v2' });
    const pidsIn = (path: string) =>
      readFileSync(join(cgroupDir(node(), 'unified', path), 'cgroup.procs'), 'utf8')
        .split('\n')
        .filter(Boolean)
        .map(Number);

    it('may make a node of any device and open only its own, by our eBPF program', async () => {
      const command = ['sh', '-c', 'mknod /m c 1 1 && mknod /z c 1 5 && head -c 1 /z | wc -c; head -c 1 /m | wc -c'];
      const { stdout, stderr } = await node().run(command);
      assert.equal(stdout, '1\n0\n');
      assert.match(stderr, /\/m: Operation not permitted/);
      const kmsg = ['sh', '-c', 'mknod /k c 1 11 && : < /k && echo opened'];
      assert.match((await node().run(kmsg)).stderr, /Operation not permitted/);
      assert.equal((await node().run(kmsg, { security: { privileged: true } })).stdout, 'opened\n');
      const devices = [{ containerPath: '/dev/kmsg', hostPath: '/dev/kmsg', permissions: 'r' }];
      const security = { capabilities: { addCapabilities: ['SYSLOG'] } };
      const readAndWrite = ['sh', '-c', ': < /dev/kmsg && echo opened; : > /dev/kmsg'];
      const asked = await node().run(readAndWrite, { devices, security });
      assert.equal(asked.stdout, 'opened\n');
      assert.match(asked.stderr, /Operation not permitted/);
    });

    it('is held to its devices in commands that are run in it, too', async () => {
      const id = await node().start(await node().pod());
      const { exitCode, stderr } = await node().client.call('ExecSync', {
        containerId: id,
        cmd: ['sh', '-c', 'mknod /m c 1 1 && head -c 1 /m'],
      });
      assert.notEqual(exitCode, 0);
      assert.match(stderr.toString(), /Operation not permitted/);
    });

    it('has limits of the controllers that there are, and is told of the one that there is not', async function () {
      const controllers = readFileSync(join(cgroupDir(node(), 'unified', ''), 'cgroup.controllers'), 'utf8');
      if (!controllers.includes('hugetlb')) this.skip(); // v1 has it
      const hugepageLimits = [{ pageSize: '2MB', limit: 4 * MIB }];
      const id = await node().start(await node().pod(), { resources: { hugepageLimits } });
      const path = await cgroupOf(node(), id);
      assert.equal(cgroupFile(node(), path, 'hugetlb.2MB.max'), String(4 * MIB));
      const update = (linux: object) => node().client.call('UpdateContainerResources', { containerId: id, linux });
      await update({ unified: { 'hugetlb.2MB.max': '2097152', 'hugetlb.1GB.max': '0' } });
      assert.equal(cgroupFile(node(), path, 'hugetlb.2MB.max'), '2097152');
      await refused(
        update({ hugepageLimits: [{ pageSize: '2MB', limit: 0 }], unified: { 'hugetlb.1GB.max': 'much' } }),
        'INVALID_ARGUMENT',
        'hugetlb.1GB.max=much',
      );
      assert.equal(cgroupFile(node(), path, 'hugetlb.2MB.max'), '2097152');
      if (!controllers.includes('memory')) {
        await refused(update({ memoryLimitInBytes: 16 * MIB }), 'FAILED_PRECONDITION', 'no memory cgroup controller');
      }
    });

    it('leaves nothing behind: twice forked, in the host’s PID namespace, frozen, in cgroups of its own', async () => {
      const id = await node().start(await node().pod(), {
        command: ['sh', '-c', '(setsid sleep 1000 &); sleep 1000 & wait'],
        security: { namespaceOptions: { pid: 'NODE' } },
      });
      const path = await cgroupOf(node(), id);
      while (pidsIn(path).length < 3) await sleep(5);
      const pids = pidsIn(path);
      const below = join(cgroupDir(node(), 'unified', path), 'below', 'that');
      mkdirSync(below, { recursive: true });
      writeFileSync(join(below, 'cgroup.procs'), String(pids.at(-1)));
      writeFileSync(join(cgroupDir(node(), 'unified', path), 'cgroup.freeze'), '1');
      await node().client.call('StopContainer', { containerId: id, timeout: 1 });
      assert.deepEqual(
        pids.filter(pid => startTimeOf(pid) !== undefined),
        [],
      );
      await node().client.call('RemoveContainer', { containerId: id });
      assert.equal(cgroupExists(node(), path), false);
    });

    it('sees its own cgroup as the whole tree, and cannot change it', async () => {
      const id = await node().start(await node().pod());
      assert.equal(
        await node()
          .exec(id, ['cat', '/proc/self/cgroup'])
          .then(text => /^0::(.*)$/m.exec(text)?.[1]),
        '/',
      );
      assert.match(await node().exec(id, ['cat', '/sys/fs/cgroup/cgroup.events']), /populated 1/);
      const { exitCode } = await node().client.call('ExecSync', {
        containerId: id,
        cmd: ['sh', '-c', 'mkdir /sys/fs/cgroup/x || echo 1 > /sys/fs/cgroup/cgroup.freeze'],
      });
      assert.notEqual(exitCode, 0);
    });

    it('is met again by the next daemon', async () => {
      const id = await node().start(await node().pod());
      await node().restart();
      assert.equal((await node().status(id)).state, 'CONTAINER_RUNNING');
      assert.equal(await node().exec(id, ['echo', 'here']), 'here\n');
    });
  },
);
