import assert from 'node:assert/strict';
import { status } from '@grpc/grpc-js';
import {
  ContainerState,
  OutputStream,
  type Container,
  type LogEntry,
  type LogsRequest,
} from '../../src/cri/generated/berth/v1/berth';
import type { ContainerUsage } from '../../src/cri/generated/berth/v1/stats';
import { berth, startBerth } from './berth';
import { FakeDaemon, failure } from './fake-daemon';

const secondNs = 1_000_000_000n;

function agoNs(seconds: number): bigint {
  return BigInt(Math.round(Date.now() / 1000 - seconds)) * secondNs;
}

const web: Container = {
  id: 'ab'.repeat(32),
  name: 'web',
  image: 'docker.io/library/nginx:1',
  imageId: `sha256:${'cd'.repeat(32)}`,
  command: ['nginx', '-g', 'daemon off;', 'and more'],
  state: ContainerState.CONTAINER_STATE_RUNNING,
  createdAtNs: agoNs(7205),
  startedAtNs: agoNs(302),
  finishedAtNs: 0n,
  exitCode: 0,
  reason: '',
  labels: {},
  pod: undefined,
  health: '',
  mounts: [],
  network: 'none',
  restarts: 0,
  ports: [],
};

const job: Container = {
  ...web,
  id: 'ef'.repeat(32),
  name: 'job',
  command: ['true'],
  state: ContainerState.CONTAINER_STATE_EXITED,
  finishedAtNs: agoNs(61),
  exitCode: 137,
  reason: 'OOMKilled',
};

const kubelets: Container = {
  ...web,
  id: '12'.repeat(32),
  name: 'dns',
  pod: { name: 'coredns-x', namespace: 'kube-system' },
};

describe('berth ps', () => {
  it("shows docker's columns, and the kubelet's containers as pod/name", async () => {
    const asked: boolean[] = [];
    await using daemon = await FakeDaemon.start({
      listContainers: (call, reply) => {
        asked.push(call.request.all);
        reply(null, { containers: [web, job, kubelets] });
      },
    });
    const { stdout, stderr, code } = await berth(daemon, ['ps', '-a']);
    assert.equal(stderr, '');
    assert.equal(code, 0);
    assert.deepEqual(stdout.split('\n'), [
      'CONTAINER ID   IMAGE     COMMAND                  CREATED       STATUS                            NAMES',
      'abababababab   nginx:1   "nginx -g daemon off…"   2 hours ago   Up 5 minutes                      web',
      'efefefefefef   nginx:1   "true"                   2 hours ago   Exited (137) About a minute ago   job',
      '121212121212   nginx:1   "nginx -g daemon off…"   2 hours ago   Up 5 minutes                      coredns-x/dns',
      '',
    ]);
    await berth(daemon, ['ps']);
    assert.deepEqual(asked, [true, false]);
  });

  it('has a column of ports where one is published', async () => {
    const ports = [{ hostIp: '', hostPort: 8080, containerPort: 80, protocol: 'tcp' }];
    await using daemon = await FakeDaemon.start({
      listContainers: (_, reply) => reply(null, { containers: [{ ...web, ports }, job] }),
    });
    const [header, first, second] = (await berth(daemon, ['ps'])).stdout.split('\n');
    assert.match(header ?? '', / STATUS +PORTS +NAMES$/);
    assert.match(first ?? '', / 0\.0\.0\.0:8080->80\/tcp +web$/);
    assert.match(second ?? '', / ago +job$/);
  });

  it('-q has ids only; --no-trunc whole ones; json every field', async () => {
    await using daemon = await FakeDaemon.start({
      listContainers: (_, reply) => reply(null, { containers: [job, kubelets] }),
    });
    assert.equal((await berth(daemon, ['ps', '-q'])).stdout, 'efefefefefef\n121212121212\n');
    assert.equal((await berth(daemon, ['ps', '-q', '--no-trunc'])).stdout, `${job.id}\n${kubelets.id}\n`);

    const { stdout } = await berth(daemon, ['ps', '--format', 'json']);
    const [first, second] = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as Record<string, unknown>);
    assert.equal(first?.['reason'], 'OOMKilled');
    assert.equal(first?.['state'], 'exited');
    assert.equal(first?.['exitCode'], 137);
    assert.deepEqual(second?.['pod'], { name: 'coredns-x', namespace: 'kube-system' });
  });

  it('takes a list that is longer than the 4 MB of a default gRPC message', async () => {
    const many = Array.from({ length: 20_000 }, () => job);
    await using daemon = await FakeDaemon.start({ listContainers: (_, reply) => reply(null, { containers: many }) });
    const { stdout } = await berth(daemon, ['ps', '-q']);
    assert.equal(stdout.length, 20_000 * 13);
  });
});

describe('berth logs', () => {
  const entry = (data: string, stream = OutputStream.STDOUT): LogEntry => ({
    timeNs: 1_700_000_000_123_456_789n,
    stream,
    data: Buffer.from(data),
  });

  it('keeps the streams apart, and stamps each line once', async () => {
    const entries = [entry('a\n'), entry('e\n', OutputStream.STDERR), entry('half '), entry('line\n'), entry('end')];
    await using daemon = await FakeDaemon.start({
      logs: call => {
        call.write({ entries: entries.slice(0, 3) });
        call.write({ entries: entries.slice(3) });
        call.end();
      },
    });
    const plain = await berth(daemon, ['logs', 'web']);
    assert.deepEqual(plain, { code: 0, stdout: 'a\nhalf line\nend', stderr: 'e\n' });

    const time = '2023-11-14T22:13:20.123456789Z';
    const stamped = await berth(daemon, ['logs', '-t', 'web']);
    assert.equal(stamped.stdout, `${time} a\n${time} half line\n${time} end`);
    assert.equal(stamped.stderr, `${time} e\n`);
  });

  it('sends what it is asked', async () => {
    const requests: LogsRequest[] = [];
    await using daemon = await FakeDaemon.start({
      logs: call => {
        requests.push(call.request);
        call.end();
      },
    });
    await berth(daemon, ['logs', 'web']);
    await berth(daemon, ['logs', '-f', '--tail', '0', '--since', '1700000000.5', 'web']);
    assert.deepEqual(requests, [
      { container: 'web', follow: false, tail: undefined, sinceNs: 0n },
      { container: 'web', follow: true, tail: 0n, sinceNs: 1_700_000_000_500_000_000n },
    ]);
  });

  it('-f shows each line when it comes, and dies of Ctrl-C as any program', async () => {
    await using daemon = await FakeDaemon.start({ logs: call => void call.write({ entries: [entry('first\n')] }) });
    const running = startBerth(daemon, ['logs', '-f', 'web']);
    await running.printed('first');
    running.child.kill('SIGINT');
    await running.ended;
    assert.equal(running.child.signalCode, 'SIGINT');
  });
});

describe('berth stop, kill, rm', () => {
  it('do all that are named, print their names in order, and complain of the rest', async () => {
    const stops: unknown[] = [];
    await using daemon = await FakeDaemon.start({
      stop: (call, reply) => {
        stops.push(call.request);
        const { container } = call.request;
        if (container === 'nope') return reply(failure(status.NOT_FOUND, 'no container is named nope'));
        setTimeout(() => reply(null, {}), container === 'slow' ? 200 : 0);
      },
    });
    const ended = await berth(daemon, ['stop', '-t', '0', 'slow', 'nope', 'fast']);
    assert.deepEqual(ended, { code: 1, stdout: 'slow\nfast\n', stderr: 'berth: no container is named nope\n' });
    assert.deepEqual(stops[0], { container: 'slow', timeoutSeconds: 0n });

    await berth(daemon, ['stop', 'web']);
    assert.deepEqual(stops.at(-1), { container: 'web', timeoutSeconds: undefined });
  });

  it('send the signal and the force', async () => {
    const requests: unknown[] = [];
    await using daemon = await FakeDaemon.start({
      kill: (call, reply) => {
        requests.push(call.request);
        reply(null, {});
      },
      remove: (call, reply) => {
        requests.push(call.request);
        reply(null, {});
      },
    });
    assert.deepEqual(await berth(daemon, ['kill', 'web']), { code: 0, stdout: 'web\n', stderr: '' });
    await berth(daemon, ['kill', '-s', 'HUP', 'web']);
    await berth(daemon, ['rm', 'web']);
    await berth(daemon, ['rm', '-f', 'web']);
    assert.deepEqual(requests, [
      { container: 'web', signal: 'KILL' },
      { container: 'web', signal: 'HUP' },
      { container: 'web', force: false },
      { container: 'web', force: true },
    ]);
  });
});

describe('berth inspect', () => {
  it('looks among containers, then images, and keeps all digits', async () => {
    await using daemon = await FakeDaemon.start({
      inspectContainer: (call, reply) => {
        if (call.request.container === 'web') reply(null, { json: '{ "startedAtNs": 1700000000123456789 }' });
        else reply(failure(status.NOT_FOUND, 'no container is named so'));
      },
      inspectImage: (call, reply) => {
        if (call.request.image === 'alpine') reply(null, { json: '{ "id": "sha256:1" }' });
        else reply(failure(status.NOT_FOUND, 'no image is named so'));
      },
    });
    const both = await berth(daemon, ['inspect', 'web', 'alpine', 'nope']);
    assert.equal(both.stdout, '[\n{ "startedAtNs": 1700000000123456789 },\n{ "id": "sha256:1" }\n]\n');
    assert.equal(both.stderr, 'berth: no container, image or volume is named nope\n');
    assert.equal(both.code, 1);

    const image = await berth(daemon, ['inspect', '--type', 'image', 'web']);
    assert.deepEqual(image, { code: 1, stdout: '[]\n', stderr: 'berth: no image is named so\n' });
  });
});

describe('berth stats --no-stream', () => {
  it('ends with the second reading, though containers come with each that have no rate yet', async () => {
    const usage = (id: number): ContainerUsage => ({ id: String(id), name: `c${id}`, pod: '', running: true });
    await using daemon = await FakeDaemon.start(
      {},
      {
        watchUsage: call => {
          for (let i = 1; i <= 3; i++) call.write({ containers: [usage(i)] });
          call.end();
        },
      },
    );
    const { stdout, code } = await berth(daemon, ['stats', '--no-stream', '--format', '{{.Name}} {{.CPUPerc}}']);
    assert.deepEqual([code, stdout], [0, 'c2 --\n']);
  });
});
