import assert from 'node:assert/strict';
import { existsSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxImage } from '../support/image-builder';
import { residentBytes, snapshot } from '../support/leaks';
import { parseLog, refused, useNode } from '../support/node';

const nothing = 'f'.repeat(64);

describe('life of pods and containers', function () {
  this.timeout(30_000);
  const node = useNode();

  it('goes from pull to removal, with the state, times and exit code of each step', async () => {
    const { client, box } = node();
    const { image } = await client.call('ImageStatus', { image: { image: box } });
    const pod = await node().pod();
    const podStatus = await client.call('PodSandboxStatus', { podSandboxId: pod });
    assert.equal(podStatus.status.state, 'SANDBOX_READY');
    const id = await node().create(pod, { command: ['sh', '-c', 'echo out; echo err >&2; exit 3'] });
    const created = await node().status(id);
    assert.equal(created.state, 'CONTAINER_CREATED');
    assert.equal(created.imageId, image?.id);
    assert.equal(created.imageRef, image?.id);
    assert.equal(created.startedAt, '0');
    await client.call('StartContainer', { containerId: id });
    const exited = await node().exit(id);
    assert.equal(exited.exitCode, 3);
    assert.equal(exited.reason, 'Error');
    const times = [exited.createdAt, exited.startedAt, exited.finishedAt].map(BigInt);
    assert.ok(times[0]! <= times[1]! && times[1]! <= times[2]!, `times out of order: ${times.join(' ')}`);
    assert.ok(Math.abs(Number(times[2]! / 1_000_000n) - Date.now()) < 20_000, 'nanoseconds since 1970');
    await client.call('RemoveContainer', { containerId: id });
    await refused(client.call('ContainerStatus', { containerId: id }), 'NOT_FOUND', id);
    await client.call('StopPodSandbox', { podSandboxId: pod });
    assert.equal((await client.call('PodSandboxStatus', { podSandboxId: pod })).status.state, 'SANDBOX_NOTREADY');
    await client.call('RemovePodSandbox', { podSandboxId: pod });
    await refused(client.call('PodSandboxStatus', { podSandboxId: pod }), 'NOT_FOUND', pod);
  });

  it('runs an image that has the same layer twice, with what is in its uppermost place', async () => {
    const shown = [{ path: 'twice', data: 'shown' }];
    const image = await node().pull('twice', busyboxImage({ extraLayers: [shown, [{ path: '.wh.twice' }], shown] }));
    const { stdout, status } = await node().run(['cat', '/twice'], { image });
    assert.deepEqual([status.exitCode, stdout], [0, 'shown']);
  });

  it('says Completed for exit code 0', async () => {
    const { status } = await node().run(['true']);
    assert.equal(status.exitCode, 0);
    assert.equal(status.reason, 'Completed');
  });

  it('does not take a container for running that ended as it was started', async () => {
    const pod = await node().pod();
    const ids = await Promise.all(Array.from({ length: 20 }, () => node().start(pod, { command: ['true'] })));
    for (const id of ids) {
      const { exitCode, startedAt, finishedAt } = await node().exit(id);
      assert.equal(exitCode, 0);
      assert.ok(BigInt(startedAt) > 0n && BigInt(startedAt) <= BigInt(finishedAt), `${startedAt} ${finishedAt}`);
    }
  });

  it('says OOMKilled when the memory limit of 16 MiB is hit', async () => {
    const { status } = await node().run(['sh', '-c', 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done'], {
      resources: { memoryLimitInBytes: 16 * 1024 * 1024, memorySwapLimitInBytes: 16 * 1024 * 1024 },
    });
    assert.equal(status.reason, 'OOMKilled');
    assert.equal(status.exitCode, 137);
  });

  it('does not say OOMKilled of a container that somebody killed', async () => {
    const id = await node().start(await node().pod());
    process.kill(await node().pidOf(id), 'SIGKILL');
    const status = await node().exit(id);
    assert.equal(status.reason, 'Error');
    assert.equal(status.exitCode, 137);
  });

  it('writes the log in CRI format: both streams, empty lines, a part for a last line without newline', async () => {
    const script = 'echo one; echo; echo two >&2; printf "  spaces  \\n"; printf "no end"';
    const id = await node().start(await node().pod(), { command: ['sh', '-c', script] });
    await node().exit(id);
    const lines = await node().logLines(id);
    const of = (stream: string) =>
      lines.filter(line => line.stream === stream).map(({ tag, text }) => `${tag} ${text}`);
    assert.deepEqual(of('stdout'), ['F one', 'F ', 'F   spaces  ', 'P no end']);
    assert.deepEqual(of('stderr'), ['F two']);
    const times = lines.map(({ time }) => time);
    assert.deepEqual(times, [...times].sort());
  });

  it('splits lines longer than 16 KiB into parts and loses no byte', async () => {
    const script = 'head -c 40000 /dev/zero | tr "\\0" a; echo; head -c 16384 /dev/zero | tr "\\0" b; echo; echo c';
    const id = await node().start(await node().pod(), {
      command: ['busybox', 'sh', '-c', script.replaceAll('tr ', 'busybox tr ')],
    });
    await node().exit(id);
    const lines = await node().logLines(id);
    assert.deepEqual(
      lines.map(({ tag, text }) => [tag, text.length, text[0]]),
      [
        ['P', 16384, 'a'],
        ['P', 16384, 'a'],
        ['F', 40000 - 2 * 16384, 'a'],
        ['F', 16384, 'b'],
        ['F', 1, 'c'],
      ],
    );
  });

  it('writes bytes that are no UTF-8 as they are', async () => {
    const { stdout } = await node().run(['printf', '\\377\\000\\200x\\n']);
    assert.equal(stdout, '\xff\x00\x80x\n');
  });

  it('opens the log anew where its path points now', async () => {
    const pod = await node().pod();
    const fifoLike = 'while :; do echo tick; sleep 0.02; done';
    const id = await node().start(pod, { command: ['sh', '-c', fifoLike] });
    const { logPath } = await node().status(id);
    renameSync(logPath, `${logPath}.1`);
    await node().client.call('ReopenContainerLog', { containerId: id });
    await node().client.call('StopContainer', { containerId: id, timeout: 0 });
    assert.ok(parseLog(readFileSync(logPath, 'latin1')).length >= 0);
    assert.ok(parseLog(readFileSync(`${logPath}.1`, 'latin1')).length > 0);
    assert.equal(statSync(logPath).mode & 0o007, 0);
  });

  it('makes no log file when opening it anew fails', async () => {
    const id = await node().start(await node().pod());
    const { logPath } = await node().status(id);
    rmSync(join(logPath, '..'), { recursive: true });
    await refused(node().client.call('ReopenContainerLog', { containerId: id }), 'INTERNAL', 'log');
    assert.equal(existsSync(logPath), false);
    await node().client.call('StopContainer', { containerId: id, timeout: 0 });
    await refused(node().client.call('ReopenContainerLog', { containerId: id }), 'FAILED_PRECONDITION');
  });

  it('stops with SIGTERM, in time', async () => {
    const id = await node().start(await node().pod(), {
      command: ['sh', '-c', 'trap "echo got it; exit 7" TERM; echo ready; while :; do sleep 0.01; done'],
    });
    while ((await node().logLines(id)).length === 0);
    // Longer than the client waits.
    await node().client.call('StopContainer', { containerId: id, timeout: 600 });
    const status = await node().status(id);
    assert.equal(status.state, 'CONTAINER_EXITED');
    assert.equal(status.exitCode, 7);
    assert.deepEqual(
      (await node().logLines(id)).map(line => line.text),
      ['ready', 'got it'],
    );
  });

  it('stops with the signal that the image or the request names', async () => {
    const image = await node().pull(
      'stopsignal',
      busyboxImage({ config: { StopSignal: 'SIGUSR1', Env: ['PATH=/bin'] } }),
    );
    const command = ['sh', '-c', 'trap "exit 10" USR1; trap "exit 12" USR2; echo ready; while :; do sleep 0.01; done'];
    for (const [options, name, code] of [
      [{ image }, 'SIGNAL_SIGUSR1', 10],
      [{ image, stopSignal: 'SIGNAL_SIGUSR2' }, 'SIGNAL_SIGUSR2', 12],
    ] as const) {
      const id = await node().start(await node().pod(), { command, ...options });
      while ((await node().logLines(id)).length === 0);
      assert.equal((await node().status(id)).stopSignal, name);
      await node().client.call('StopContainer', { containerId: id, timeout: 20 });
      assert.equal((await node().status(id)).exitCode, code);
    }
  });

  it('kills what does not end on the stop signal, and at once with a time-out of 0', async () => {
    const command = ['sh', '-c', 'trap "" TERM; while :; do sleep 0.01; done'];
    const pod = await node().pod();
    const [patient, hasty] = [await node().start(pod, { command }), await node().start(pod, { command })];
    const startedAt = Date.now();
    await node().client.call('StopContainer', { containerId: patient, timeout: 1 });
    assert.ok(Date.now() - startedAt >= 990, 'the time-out is waited for');
    assert.equal((await node().status(patient)).exitCode, 137);
    await node().client.call('StopContainer', { containerId: hasty, timeout: 0 });
    assert.equal((await node().status(hasty)).exitCode, 137);
  });

  it('lets a second stop with less patience win', async () => {
    const id = await node().start(await node().pod(), {
      command: ['sh', '-c', 'trap "" TERM; while :; do sleep 0.01; done'],
    });
    const slow = node().client.call('StopContainer', { containerId: id, timeout: 600 });
    await node().client.call('StopContainer', { containerId: id, timeout: 0 });
    await slow;
  });

  it('ends what a container leaves running in the pod’s PID namespace', async () => {
    const pod = await node().pod();
    const watcher = await node().start(pod);
    await node().run(['sh', '-c', 'sleep 987 & exit 0'], { pod });
    assert.doesNotMatch(await node().exec(watcher, ['ps']), /sleep 987/);
  });

  it('stops and removes twice, and what was never there, without an error', async () => {
    const { client } = node();
    const pod = await node().pod();
    const id = await node().start(pod);
    for (let i = 0; i < 2; i++) await client.call('StopContainer', { containerId: id, timeout: 0 });
    for (let i = 0; i < 2; i++) await client.call('RemoveContainer', { containerId: id });
    for (let i = 0; i < 2; i++) await client.call('StopPodSandbox', { podSandboxId: pod });
    for (let i = 0; i < 2; i++) await client.call('RemovePodSandbox', { podSandboxId: pod });
    await client.call('StopContainer', { containerId: nothing, timeout: 5 });
    await client.call('RemoveContainer', { containerId: nothing });
    await client.call('StopPodSandbox', { podSandboxId: nothing });
    await client.call('RemovePodSandbox', { podSandboxId: nothing });
    await refused(client.call('StartContainer', { containerId: nothing }), 'NOT_FOUND');
    await refused(client.call('ContainerStatus', { containerId: nothing }), 'NOT_FOUND');
    await refused(client.call('PodSandboxStatus', { podSandboxId: nothing }), 'NOT_FOUND');
    await refused(client.call('ExecSync', { containerId: nothing, cmd: ['true'] }), 'NOT_FOUND');
  });

  it('removes running containers with their pod', async () => {
    const before = snapshot(node().daemon);
    const pod = await node().pod();
    const id = await node().start(pod);
    await node().client.call('RemovePodSandbox', { podSandboxId: pod });
    await refused(node().client.call('ContainerStatus', { containerId: id }), 'NOT_FOUND');
    await node().assertNothingLeft(before);
  });

  it('starts a started container once, and an exited one never', async () => {
    const id = await node().start(await node().pod());
    await node().client.call('StartContainer', { containerId: id });
    await node().client.call('StopContainer', { containerId: id, timeout: 0 });
    await refused(node().client.call('StartContainer', { containerId: id }), 'FAILED_PRECONDITION', 'exited');
  });

  it('ends all containers of a pod that is stopped, and takes no new one', async () => {
    const pod = await node().pod();
    const ids = [await node().start(pod), await node().create(pod)];
    await node().client.call('StopPodSandbox', { podSandboxId: pod });
    for (const id of ids) assert.equal((await node().status(id)).state, 'CONTAINER_EXITED');
    await refused(node().create(pod), 'FAILED_PRECONDITION', pod);
  });

  it('returns the same id for the same metadata, at once, repeated and concurrently', async () => {
    const { client } = node();
    const config = node().podConfig();
    const pods = await Promise.all(Array.from({ length: 8 }, () => client.call('RunPodSandbox', { config })));
    pods.push(await client.call('RunPodSandbox', { config }));
    assert.equal(new Set(pods.map(({ podSandboxId }) => podSandboxId)).size, 1);
    const podSandboxId = pods[0]?.podSandboxId;
    const container = node().containerConfig();
    const create = () => client.call('CreateContainer', { podSandboxId, config: container });
    const containers = await Promise.all(Array.from({ length: 8 }, create));
    await client.call('StartContainer', { containerId: containers[0]?.containerId });
    containers.push(await create());
    assert.equal(new Set(containers.map(({ containerId }) => containerId)).size, 1);
    assert.equal((await client.call('ListContainers')).containers.length, 1);
    const other = await client.call('RunPodSandbox', {
      config: { ...config, metadata: { ...config.metadata, attempt: 1 } },
    });
    assert.notEqual(other.podSandboxId, podSandboxId);
    assert.doesNotMatch(node().daemon.log, /reserved/i);
  });

  it('starts 100 pods one after the other and leaves nothing of them', async function () {
    this.timeout(120_000);
    const cycle = async () => {
      const pod = await node().pod();
      const id = await node().start(pod, { command: ['sh', '-c', 'echo hello'] });
      await node().exit(id);
      await node().client.call('RemoveContainer', { containerId: id });
      await node().client.call('StopPodSandbox', { podSandboxId: pod });
      await node().client.call('RemovePodSandbox', { podSandboxId: pod });
    };
    const before = snapshot(node().daemon);
    for (let i = 0; i < 30; i++) await cycle();
    const warm = residentBytes(node().daemon.pid);
    for (let i = 0; i < 70; i++) await cycle();
    const grown = residentBytes(node().daemon.pid) - warm;
    assert.ok(grown < 64 * 1024 * 1024, `70 pods made the daemon grow by ${grown} bytes`);
    await node().assertNothingLeft(before);
    assert.deepEqual((await node().client.call('ListContainers')).containers, []);
    assert.deepEqual((await node().client.call('ListPodSandbox')).items, []);
  });
});
