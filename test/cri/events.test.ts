import assert from 'node:assert/strict';
import { status } from '@grpc/grpc-js';
import { berth } from '../cli/berth';
import { CriClient } from '../support/cri-client';
import { EventStream, told } from '../support/event-stream';
import { TestDaemon } from '../support/daemon';
import { useNode } from '../support/node';

describe('GetContainerEvents', function () {
  this.timeout(60_000);
  const node = useNode();

  it('tells a life from beginning to end, to many, with the statuses after each change', async () => {
    const { client } = node();
    using one = await EventStream.open(client);
    using two = await EventStream.open(client);
    const pod = await node().pod({ labels: { app: 'web' } });
    const id = await node().create(pod, { command: ['sh', '-c', 'exit 3'], labels: { tier: 'front' } });
    await client.call('StartContainer', { containerId: id });
    await node().exit(id);
    await client.call('RemoveContainer', { containerId: id });
    await client.call('StopPodSandbox', { podSandboxId: pod });
    await client.call('StopPodSandbox', { podSandboxId: pod });
    await client.call('RemovePodSandbox', { podSandboxId: pod });
    const names = { [pod]: 'pod', [id]: 'container' };
    const events = await one.first(8);
    assert.deepEqual(told(events, names), [
      'pod CREATED',
      'pod STARTED',
      'container CREATED',
      'container STARTED',
      'container STOPPED',
      'container DELETED',
      'pod STOPPED',
      'pod DELETED',
    ]);
    assert.deepEqual(await two.first(8), events);

    for (const { podSandboxStatus } of events) assert.equal(podSandboxStatus?.id, pod);
    assert.deepEqual(
      events.map(({ podSandboxStatus }) => podSandboxStatus?.state.replace('SANDBOX_', '')),
      ['READY', 'READY', 'READY', 'READY', 'READY', 'READY', 'NOTREADY', 'NOTREADY'],
    );
    const states = events.map(({ containersStatuses }) => containersStatuses.map(({ id: of, state }) => [of, state]));
    assert.deepEqual(states.slice(0, 3), [[], [], [[id, 'CONTAINER_CREATED']]]);
    assert.deepEqual(states.slice(4), [[[id, 'CONTAINER_EXITED']], [], [], []]);
    const [stopped] = events[4]?.containersStatuses ?? [];
    assert.equal(stopped?.exitCode, 3);
    assert.deepEqual({ ...stopped.labels }, { tier: 'front' });
    const times = events.map(({ createdAt }) => BigInt(createdAt));
    assert.ok(times.every((time, i) => time > (times[i - 1] ?? 0n)));
    const apartMs = Number(times[0] ?? 0n) / 1e6 - Date.now();
    assert.ok(Math.abs(apartMs) < 60_000, 'nanoseconds since 1970');
  });

  it('tells of the other containers of the pod, too', async () => {
    const pod = await node().pod();
    const other = await node().start(pod);
    using stream = await EventStream.open(node().client);
    const id = await node().create(pod);
    const [created] = await stream.first(1);
    assert.equal(created?.containerId, id);
    assert.deepEqual(created.containersStatuses.map(({ id: of }) => of).sort(), [id, other].sort());
  });

  it('tells of a container that is killed with its pod, and of one that cannot be started', async () => {
    const { client } = node();
    const pod = await node().pod();
    const wrong = await node().create(pod, { command: ['/no/such/command'] });
    const id = await node().start(pod);
    using stream = await EventStream.open(client);
    await assert.rejects(client.call('StartContainer', { containerId: wrong }));
    await client.call('RemovePodSandbox', { podSandboxId: pod });
    const names = { [pod]: 'pod', [id]: 'container', [wrong]: 'wrong' };
    const events = told(await stream.first(6), names);
    assert.deepEqual(events.slice(0, 2), ['wrong STOPPED', 'pod STOPPED']);
    // Both go at the same time, each in its order.
    assert.deepEqual(events.slice(2, 5).sort(), ['container DELETED', 'container STOPPED', 'wrong DELETED']);
    assert.ok(events.indexOf('container STOPPED') < events.indexOf('container DELETED'));
    assert.equal(events[5], 'pod DELETED');
  });

  it('says nothing of what could not be made, nor of what people run', async () => {
    const { client, daemon } = node();
    using stream = await EventStream.open(client);
    const pod = await node().pod();
    await assert.rejects(node().create(pod, { image: 'registry.example/none:1' }));
    await assert.rejects(node().create(pod, { security: { runAsUsername: 'nobody-has-this-name' } }));
    for (const args of [
      ['run', '-d', '--name', 'own', node().box, 'true'],
      ['rm', '-f', 'own'],
    ]) {
      const { code, stderr } = await berth(daemon.berthSocket, args);
      assert.equal(code, 0, stderr);
    }
    const id = await node().create(pod);
    assert.deepEqual(told(await stream.first(3), { [pod]: 'pod', [id]: 'container' }), [
      'pod CREATED',
      'pod STARTED',
      'container CREATED',
    ]);
  });

  it('tells of an end that no daemon saw, once there is one again', async () => {
    const id = await node().start(await node().pod());
    const pid = await node().pidOf(id);
    await node().daemon.kill();
    process.kill(pid, 'SIGKILL');
    await node().daemon.run();
    await node().reconnect();
    await node().exit(id);
    const { stdout } = await berth(node().daemon.berthSocket, [
      ...['events', '--since', '1h', '--until', '0s', '-f', `container=${id}`],
      ...['--format', '{{.Action}} {{.ExitCode}}'],
    ]);
    assert.equal(stdout, 'die 137\n');
    // And one that is there now is told of as any other.
    using stream = await EventStream.open(node().client);
    await node().client.call('RemoveContainer', { containerId: id });
    assert.deepEqual(told(await stream.first(1), { [id]: 'container' }), ['container DELETED']);
  });

  it('tells people of an oom', async () => {
    const { status: ended } = await node().run(['sh', '-c', 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done'], {
      resources: { memoryLimitInBytes: 16 << 20, memorySwapLimitInBytes: 16 << 20 },
    });
    assert.equal(ended.reason, 'OOMKilled');
    const { stdout } = await berth(node().daemon.berthSocket, [
      ...['events', '--since', '1h', '--until', '0s', '-f', `container=${ended.id}`],
      ...['--format', '{{.Action}} {{.ExitCode}}'],
    ]);
    assert.equal(stdout, 'create \nstart \noom \ndie 137\n');
  });

  it('streams pods and containers, each once, filtered as in lists', async () => {
    const { client } = node();
    const pods = await Promise.all([1, 2, 3].map(i => node().pod({ labels: { number: `${i}` } })));
    const [first = '', second = ''] = pods;
    const [inFirst, inSecond] = [await node().create(first), await node().start(second)];
    const podsOf = async (filter?: object) =>
      ((await client.allOf('StreamPodSandboxes', { filter })) as { podSandboxes: { id: string }[] }[]).flatMap(
        ({ podSandboxes }) => podSandboxes.map(({ id }) => id),
      );
    const containersOf = async (filter?: object) =>
      ((await client.allOf('StreamContainers', { filter })) as { containers: { id: string }[] }[]).flatMap(
        ({ containers }) => containers.map(({ id }) => id),
      );
    assert.deepEqual((await podsOf()).sort(), pods.slice().sort());
    assert.deepEqual(await podsOf({ labelSelector: { number: '2' } }), [second]);
    assert.deepEqual(await podsOf({ id: first.slice(0, 20) }), [first]);
    assert.deepEqual(await podsOf({ state: { state: 'SANDBOX_NOTREADY' } }), []);
    assert.deepEqual((await containersOf()).sort(), [inFirst, inSecond].sort());
    assert.deepEqual(await containersOf({ podSandboxId: second }), [inSecond]);
    assert.deepEqual(await containersOf({ state: { state: 'CONTAINER_CREATED' } }), [inFirst]);
  });

  it('streams thousands of bytes of annotations a pod in messages that clients take', async () => {
    const annotations = { large: 'x'.repeat(250_000) };
    const pods = await Promise.all(Array.from({ length: 8 }, () => node().pod({ annotations })));
    const messages = (await node().client.allOf('StreamPodSandboxes', {})) as { podSandboxes: { id: string }[] }[];
    assert.ok(messages.length >= 2);
    const ids = messages.flatMap(({ podSandboxes }) => podSandboxes.map(({ id }) => id));
    assert.deepEqual(ids.sort(), pods.sort());
  });
});

describe('GetContainerEvents of a daemon that ends', function () {
  this.timeout(60_000);

  it('ends with a sentence, and does not hold the daemon up', async () => {
    await using daemon = await TestDaemon.start();
    using client = new CriClient(daemon.socket);
    using stream = await EventStream.open(client);
    const stopped = daemon.stop();
    const failure = await stream.end();
    await stopped;
    assert.equal(failure.code, status.UNAVAILABLE);
    assert.match(failure.details, /the daemon ends/);
  });
});
