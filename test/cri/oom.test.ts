import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { cgroupDir, cgroupFile, cgroupOf, isInV2 } from '../support/cgroup-files';
import { useNode } from '../support/node';

const MIB = 1 << 20;

describe('a container that runs out of memory', function () {
  this.timeout(60_000);
  const node = useNode();
  const resources = { memoryLimitInBytes: 16 * MIB, memorySwapLimitInBytes: 16 * MIB };
  /** Doubles a string until there is no memory for it. */
  const EAT = 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done';
  /** The same in a child, which the OOM killer takes first: nothing else needs memory. */
  const CHILD_EATS = `sh -c '${EAT}' 2>/dev/null`;

  const oomKills = async (id: string) => {
    const file = isInV2(node(), 'memory') ? 'memory.events' : 'memory.oom_control';
    return Number(/oom_kill (\d+)/.exec(cgroupFile(node(), await cgroupOf(node(), id), file))?.[1]);
  };

  it('is OOMKilled with exit code 137, and the message names its limit', async () => {
    const { status } = await node().run(['sh', '-c', EAT], { resources });
    assert.equal(status.reason, 'OOMKilled');
    assert.equal(status.exitCode, 137);
    assert.match(status.message, /out of memory: the container's limit of 16777216 bytes/);
  });

  it('is OOMKilled when its shell passes the death of its child on as 137', async () => {
    const { status } = await node().run(['sh', '-c', `${CHILD_EATS}; exit $?`], { resources });
    assert.equal(status.exitCode, 137);
    assert.equal(status.reason, 'OOMKilled');
  });

  it('is not OOMKilled when it goes on after the death of its child', async () => {
    const ended = await node().run(['sh', '-c', `${CHILD_EATS}; echo child $?`], { resources });
    assert.equal(ended.stdout, 'child 137\n');
    assert.equal(ended.status.reason, 'Completed');
    assert.equal(ended.status.message, '');
    const failed = await node().run(['sh', '-c', `${CHILD_EATS}; exit 1`], { resources });
    assert.equal(failed.status.reason, 'Error');
    assert.equal(failed.status.exitCode, 1);
  });

  it('is not OOMKilled when a stop kills it long after the death of its child', async () => {
    const id = await node().start(await node().pod(), {
      command: ['sh', '-c', `${CHILD_EATS}; echo child $?; sleep 1000`],
      resources,
    });
    while ((await node().logLines(id)).length === 0) await sleep(5);
    assert.equal(await oomKills(id), 1);
    await node().client.call('StopContainer', { containerId: id, timeout: 0 });
    const { exitCode, reason } = await node().status(id);
    assert.deepEqual({ exitCode, reason }, { exitCode: 137, reason: 'Error' });
  });

  it('is OOMKilled although no daemon was there', async () => {
    const id = await node().start(await node().pod(), {
      command: ['sh', '-c', `while [ ! -e /dev/shm/go ]; do sleep 0.05; done; ${EAT}`],
      resources,
    });
    const pid = await node().pidOf(id);
    await node().daemon.kill();
    writeFileSync(`/proc/${pid}/root/dev/shm/go`, '');
    while (existsSync(`/proc/${pid}`)) await sleep(10);
    await node().restart();
    const { reason, exitCode } = await node().exit(id);
    assert.deepEqual({ exitCode, reason }, { exitCode: 137, reason: 'OOMKilled' });
  });

  it('is OOMKilled, and not by its own limit, when the pod’s is reached', async () => {
    const pod = await node().pod({ linux: { resources: { memoryLimitInBytes: 24 * MIB } } });
    const id = await node().start(pod, { command: ['sh', '-c', EAT], resources: { memoryLimitInBytes: 256 * MIB } });
    const status = await node().exit(id);
    assert.equal(status.reason, 'OOMKilled');
    assert.match(status.message, /the pod's limit was reached$/);
  });

  it('leaves no cgroup', async () => {
    const id = await node().create(await node().pod(), { command: ['sh', '-c', EAT], resources });
    const dir = cgroupDir(node(), 'memory', await cgroupOf(node(), id));
    await node().client.call('StartContainer', { containerId: id });
    await node().exit(id);
    while (existsSync(dir)) await sleep(5);
  });
});
