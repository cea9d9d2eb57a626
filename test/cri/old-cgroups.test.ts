import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cgroupDir, cgroupExists, cgroupOf, isInV2 } from '../support/cgroup-files';
import { useNode } from '../support/node';

/**
 * A process that the kernel does not let go keeps its cgroup busy. v1 has a way to make one: a frozen process does not
 * die, and one that is frozen by a cgroup elsewhere is not let go with the container's.
 */
describe('a cgroup that stays busy after its container’s end', function () {
  this.timeout(60_000);
  const node = useNode();
  let apart = '';

  beforeEach(function () {
    if (isInV2(node(), 'freezer')) this.skip();
    apart = cgroupDir(node(), 'freezer', '/apart');
    mkdirSync(apart);
  });
  afterEach(async () => {
    if (!existsSync(apart)) return;
    setFrozen(false);
    while (readFileSync(join(apart, 'cgroup.procs'), 'utf8') !== '') await sleep(5);
    rmdirSync(apart);
  });

  const setFrozen = (isFrozen: boolean) => writeFileSync(join(apart, 'freezer.state'), isFrozen ? 'FROZEN' : 'THAWED');

  /** A container that has ended, but for one process; its cgroup. */
  async function endedButForOne(): Promise<{ id: string; path: string }> {
    const id = await node().start(await node().pod(), {
      command: ['sh', '-c', 'setsid sleep 1000 & exec sleep 2000'],
      // With a PID namespace of its own its first process would wait for the other.
      security: { namespaceOptions: { pid: 'NODE' } },
    });
    const path = await cgroupOf(node(), id);
    const first = await node().pidOf(id);
    const other = await onceThereIs(() => pidsIn(path).find(pid => pid !== first));
    writeFileSync(join(apart, 'cgroup.procs'), String(other));
    setFrozen(true);
    process.kill(first, 'SIGKILL');
    assert.equal((await node().exit(id)).exitCode, 137);
    return { id, path };
  }

  const pidsIn = (path: string) =>
    readFileSync(join(cgroupDir(node(), 'pids', path), 'cgroup.procs'), 'utf8')
      .split('\n')
      .filter(line => line !== '')
      .map(Number);

  async function onceThereIs<T>(find: () => T | undefined): Promise<T> {
    for (let found = find(); ; found = find()) {
      if (found !== undefined) return found;
      await sleep(5);
    }
  }

  const untilDaemonSays = (text: string, from = 0) =>
    onceThereIs(() => (node().daemon.log.slice(from).includes(text) ? true : undefined));

  const untilGone = (path: string) => onceThereIs(() => (cgroupExists(node(), path) ? undefined : true));

  it('goes as soon as the kernel lets it, although nobody asks', async () => {
    const { path } = await endedButForOne();
    await untilDaemonSays('will be tried again: remove cgroup');
    assert.equal(cgroupExists(node(), path), true);
    setFrozen(false);
    await untilGone(path);
  });

  it('goes when the daemon has been killed meanwhile', async () => {
    const { path } = await endedButForOne();
    await node().daemon.kill();
    const said = node().daemon.log.length;
    await node().restart();
    await untilDaemonSays('will be tried again: remove cgroup', said);
    setFrozen(false);
    await untilGone(path);
  });

  it('is told of by a removal, which succeeds once it is not busy', async () => {
    const { id, path } = await endedButForOne();
    await assert.rejects(
      node().client.call('RemoveContainer', { containerId: id }),
      /has left was killed .*: the kernel holds process \d+ \(sleep\)/,
    );
    setFrozen(false);
    await node().client.call('RemoveContainer', { containerId: id });
    assert.equal(cgroupExists(node(), path), false);
  });
});
