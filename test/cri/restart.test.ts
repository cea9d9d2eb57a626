import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { silentLogger } from '../../src/base/log';
import type { ContainerRecord } from '../../src/container/containers';
import { startTimeOf } from '../../src/process/identity';
import type { SandboxRecord } from '../../src/sandbox/sandboxes';
import { openStore } from '../../src/store/store';
import { CriClient } from '../support/cri-client';
import { parentOf, snapshot } from '../support/leaks';
import { refused, useNode } from '../support/node';
import { podInits, processesIn } from '../support/processes';

/** Prints 1, 2, 3 … until its file `stop` is there, then ends with 5. */
const counter = 'i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; sleep 0.003; done; echo last; exit 5';

describe('containers and a daemon that goes away', function () {
  this.timeout(60_000);
  const node = useNode();
  const running = (pid: number) => existsSync(`/proc/${pid}`);

  /** Kills the daemon in the middle of the lines that a container prints. */
  const logged = async (path: string, line: string) => {
    while (!readFileSync(path, 'latin1').includes(` F ${line}\n`)) await sleep(2);
  };

  it('go on when it is killed: same process, whole log, exec, and the right exit code', async () => {
    const id = await node().start(await node().pod(), { command: ['sh', '-c', counter] });
    const { logPath, startedAt } = await node().status(id);
    const pid = await node().pidOf(id);
    for (const mark of ['10', '60', '110']) {
      await logged(logPath, mark);
      await node().daemon.kill();
      await logged(logPath, String(Number(mark) + 20));
      await node().restart();
      const status = await node().status(id);
      assert.equal(status.state, 'CONTAINER_RUNNING');
      assert.equal(status.startedAt, startedAt);
      assert.equal(await node().pidOf(id), pid);
      assert.equal(running(pid), true);
      assert.equal(await node().exec(id, ['echo', 'hello']), 'hello\n');
    }
    await node().exec(id, ['touch', '/stop']);
    const exit = await node().exit(id);
    assert.equal(exit.exitCode, 5);
    assert.equal(exit.reason, 'Error');
    assert.equal(exit.startedAt, startedAt);
    const lines = (await node().logLines(id)).map(({ tag, text }) => `${tag} ${text}`);
    assert.equal(lines.pop(), 'F last');
    assert.deepEqual(
      lines,
      lines.map((_, i) => `F ${i + 1}`),
    );
  });

  it('go on when it is told to end', async () => {
    const id = await node().start(await node().pod());
    const pid = await node().pidOf(id);
    node().client.close();
    await node().daemon.stop();
    assert.equal(running(pid), true);
    assert.equal(existsSync(node().daemon.socket), false);
    await node().restart();
    assert.equal(await node().exec(id, ['echo', 'hello']), 'hello\n');
    await node().client.call('StopContainer', { containerId: id, timeout: 0 });
    assert.equal((await node().status(id)).exitCode, 137);
  });

  it('have the right exit code and times when they end while it is away', async () => {
    const pod = await node().pod();
    const script = 'echo ready; while [ ! -e /go/on ]; do sleep 0.005; done; echo done; exit 42';
    const shared = join(node().daemon.dir, 'shared');
    mkdirSync(shared);
    const id = await node().start(pod, {
      command: ['sh', '-c', script],
      mounts: [{ containerPath: '/go', hostPath: shared }],
    });
    const killed = await node().start(pod);
    const { logPath } = await node().status(id);
    const pids = [await node().pidOf(id), await node().pidOf(killed)];
    await logged(logPath, 'ready');
    await node().daemon.kill();
    const from = BigInt(Date.now()) * 1_000_000n;
    writeFileSync(join(shared, 'on'), '');
    process.kill(pids[1]!, 'SIGKILL');
    while (pids.some(running)) await sleep(5);
    const until = BigInt(Date.now() + 1) * 1_000_000n;
    await node().restart();
    const exit = await node().exit(id);
    assert.equal(exit.exitCode, 42);
    assert.ok(
      BigInt(exit.finishedAt) >= from && BigInt(exit.finishedAt) <= until,
      `${from} ${exit.finishedAt} ${until}`,
    );
    assert.deepEqual(
      (await node().logLines(id)).map(({ text }) => text),
      ['ready', 'done'],
    );
    assert.equal((await node().exit(killed)).exitCode, 137);
    assert.equal((await node().exit(killed)).reason, 'Error');
  });

  it('say OOMKilled also when that happened while it was away', async () => {
    const shared = join(node().daemon.dir, 'oom');
    mkdirSync(shared);
    const script = 'while [ ! -e /go/on ]; do :; done; x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done';
    const id = await node().start(await node().pod(), {
      command: ['sh', '-c', script],
      mounts: [{ containerPath: '/go', hostPath: shared }],
      resources: { memoryLimitInBytes: 16 * 1024 * 1024 },
    });
    const pid = await node().pidOf(id);
    await node().daemon.kill();
    writeFileSync(join(shared, 'on'), '');
    while (running(pid)) await sleep(5);
    await node().restart();
    const exit = await node().exit(id);
    assert.equal(exit.exitCode, 137);
    assert.equal(exit.reason, 'OOMKilled');
  });

  it('that were created and not started can be started, or removed, afterwards', async () => {
    const pod = await node().pod();
    const [id, other] = [await node().create(pod, { command: ['sh', '-c', 'exit 6'] }), await node().create(pod)];
    await node().restart();
    assert.equal((await node().status(id)).state, 'CONTAINER_CREATED');
    await node().client.call('StartContainer', { containerId: id });
    assert.equal((await node().exit(id)).exitCode, 6);
    const pid = await node().pidOf(other);
    await node().client.call('RemoveContainer', { containerId: other });
    assert.equal(running(pid), false);
  });

  it('whose monitor was killed are said to have ended, and nothing of them runs on', async () => {
    const id = await node().start(await node().pod(), { command: ['sh', '-c', 'sleep 1000 & sleep 1001'] });
    const pid = await node().pidOf(id);
    const monitor = Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
    process.kill(monitor, 'SIGKILL');
    const exit = await node().exit(id);
    assert.equal(exit.exitCode, 255);
    assert.equal(exit.reason, 'Unknown');
    const until = Date.now() + 60_000;
    while (running(pid) && Date.now() < until) await sleep(5);
    assert.equal(running(pid), false);
  });

  it('whose monitor was killed have ended when that is recorded, not after it', async () => {
    const id = await node().start(await node().pod(), { command: ['sh', '-c', 'sleep 1000 & sleep 1001'] });
    const pid = await node().pidOf(id);
    const monitor = parentOf(pid);
    await node().daemon.kill();
    await node().daemon.run([], { BERTH_CRASH_AT: 'exit.recorded' });
    process.kill(monitor, 'SIGKILL');
    await node().daemon.ended();
    assert.deepEqual(processesIn(node().daemon.cgroupRoots), []);
    await node().restart();
    assert.equal((await node().status(id)).state, 'CONTAINER_EXITED');
  });

  it('are met all at once: a daemon is ready although no monitor says a word', async () => {
    const pod = await node().pod();
    const ids = await Promise.all(Array.from({ length: 12 }, () => node().start(pod)));
    ids.push(await node().create(pod));
    const monitors = await Promise.all(
      ids.map(async id => {
        const status = readFileSync(`/proc/${await node().pidOf(id)}/status`, 'utf8');
        return Number(/^PPid:\s+(\d+)$/m.exec(status)?.[1]);
      }),
    );
    await node().daemon.kill();
    for (const monitor of monitors) process.kill(monitor, 'SIGSTOP');
    try {
      await node().restart();
      const { containers } = await node().client.call('ListContainers');
      const states = new Map(containers.map(({ id, state }) => [id, state]));
      const last = ids.pop() ?? '';
      assert.equal(states.get(last), 'CONTAINER_CREATED');
      for (const id of ids) assert.equal(states.get(id), 'CONTAINER_RUNNING');
    } finally {
      for (const monitor of monitors) process.kill(monitor, 'SIGCONT');
    }
    await node().client.call('StopPodSandbox', { podSandboxId: pod });
    for (const id of ids) assert.equal((await node().status(id)).exitCode, 137);
  });

  it('keep their pods and the pods their namespaces', async () => {
    const pod = await node().pod();
    const first = await node().start(pod);
    await node().exec(first, ['sh', '-c', 'echo shared > /dev/shm/file']);
    await node().restart();
    assert.equal((await node().client.call('PodSandboxStatus', { podSandboxId: pod })).status.state, 'SANDBOX_READY');
    const second = await node().start(pod);
    assert.equal(await node().exec(second, ['cat', '/dev/shm/file']), 'shared\n');
    assert.match(await node().exec(second, ['ps']), /sleep 1000[^]*sleep 1000/);
    for (const name of ['net', 'ipc', 'uts', 'pid']) {
      const link = ['readlink', `/proc/self/ns/${name}`];
      assert.equal(await node().exec(second, link), await node().exec(first, link), name);
    }
  });

  it('whose pod has lost its namespaces: the pod is not ready any more', async () => {
    const pod = await node().pod();
    const { info } = await node().client.call('PodSandboxStatus', { podSandboxId: pod, verbose: true });
    const { pid } = JSON.parse(info['info'] ?? '{}') as { pid: number };
    await node().daemon.kill();
    process.kill(pid, 'SIGKILL');
    await node().restart();
    assert.equal(
      (await node().client.call('PodSandboxStatus', { podSandboxId: pod })).status.state,
      'SANDBOX_NOTREADY',
    );
    await refused(node().create(pod), 'FAILED_PRECONDITION');
  });

  it('end when their records are lost, since nobody could stop them any more', async () => {
    const id = await node().start(await node().pod(), { command: ['sh', '-c', 'sleep 1000 & exec sleep 1001'] });
    const pid = await node().pidOf(id);
    await node().daemon.stop();
    const store = openStore(join(node().daemon.root, 'db'), silentLogger);
    await store.table<ContainerRecord>('containers', 1).remove(id);
    await store.close();
    await node().daemon.run();
    await node().reconnect();
    assert.equal(running(pid), false);
    assert.equal(existsSync(join(node().daemon.state, 'containers', id)), false);
    await refused(node().status(id), 'NOT_FOUND');
  });

  it('leave alone who has the number of a pod’s init after a reboot', async () => {
    const pod = await node().pod();
    await node().daemon.stop();
    const other = spawn('sleep', ['1000'], { stdio: 'ignore' });
    const ended = once(other, 'exit');
    try {
      const pid = other.pid ?? 0;
      const store = openStore(join(node().daemon.root, 'db'), silentLogger);
      const pods = store.table<SandboxRecord>('sandboxes', 1);
      const record = pods.get(pod) ?? assert.fail('no record');
      await pods.put(pod, { ...record, pause: { pid, pidStartTime: startTimeOf(pid) ?? 0n } });
      await store.close();
      for (const init of podInits({ ids: [pod] })) process.kill(init, 'SIGKILL');
      await node().daemon.run();
      await node().reconnect();
      await node().client.call('RemovePodSandbox', { podSandboxId: pod });
      assert.equal(running(pid), true);
      other.kill('SIGTERM');
      assert.deepEqual(await ended, [null, 'SIGTERM']);
    } finally {
      other.kill('SIGKILL');
    }
  });

  it('leave nothing half done, whenever it is killed between RunPodSandbox and StartContainer', async function () {
    this.timeout(240_000);
    const clean = snapshot(node().daemon);
    const state = node().daemon.state;
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 120 }), async afterMs => {
        const client = new CriClient(node().daemon.socket);
        const story = async () => {
          const config = node().podConfig();
          const { podSandboxId } = await client.call('RunPodSandbox', { config });
          const container = node().containerConfig({ command: ['sh', '-c', 'echo hello; exec sleep 1000'] });
          const { containerId } = await client.call('CreateContainer', { podSandboxId, config: container });
          await client.call('StartContainer', { containerId });
          await client.call('RemovePodSandbox', { podSandboxId });
        };
        // Two at a time, so that one is in the middle of something when the other is between two calls.
        const stories = Promise.allSettled([story(), sleep(afterMs / 3).then(story)]);
        await sleep(afterMs);
        await node().daemon.kill();
        await stories;
        client.close();
        await node().restart();
        const { containers } = await node().client.call('ListContainers');
        const { items } = await node().client.call('ListPodSandbox');
        for (const { id, podSandboxId } of containers) {
          assert.ok(
            items.some(pod => pod.id === podSandboxId),
            `container ${id} has no pod`,
          );
          const status = await node().status(id);
          assert.notEqual(status.state, 'CONTAINER_UNKNOWN');
          if (status.state === 'CONTAINER_RUNNING') assert.equal(await node().exec(id, ['echo', 'hi']), 'hi\n');
          if (status.state === 'CONTAINER_CREATED') {
            await node().client.call('StartContainer', { containerId: id });
            assert.equal(await node().exec(id, ['echo', 'hi']), 'hi\n');
          }
        }
        assert.deepEqual(readdirSync(join(state, 'containers')).sort(), containers.map(({ id }) => id).sort());
        await node().removeAll();
        await node().assertNothingLeft({ ...clean, fds: snapshot(node().daemon).fds });
        assert.deepEqual((await node().client.call('ListContainers')).containers, []);
      }),
      { numRuns: 25, endOnFailure: true },
    );
  });
});
