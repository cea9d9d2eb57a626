import assert from 'node:assert/strict';
import { credentials, loadPackageDefinition, type Client, type ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { repoRoot } from '../../support/repo';
import { RealDaemon } from './harness';

const image = 'localhost/busybox:1';

describe('containers, with a real daemon', () => {
  let daemon: RealDaemon;

  before(async () => {
    daemon = await RealDaemon.start();
    await daemon.importBusybox(image);
  });
  after(async () => assert.deepEqual(await daemon.stop(), []));
  afterEach(async () => {
    const ids = (await daemon.ok('ps', '-aq')).split('\n').filter(id => id !== '');
    if (ids.length > 0) await daemon.ok('rm', '-f', ...ids);
  });

  const detached = async (name: string, ...command: string[]) =>
    (await daemon.ok('run', '-d', '--name', name, image, ...command)).trim();
  const counting = ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done'];
  const exited = (name: string) =>
    daemon.eventually(`${name} has exited`, async () => /Exited/.test(await daemon.ok('ps', '-a')));

  it('lists those that run, and all, the newest first', async () => {
    const first = await detached('first', 'sleep', '100');
    const second = await detached('second', 'true');
    await exited('second');
    assert.equal(await daemon.ok('ps', '-q', '--no-trunc'), `${first}\n`);
    assert.equal(await daemon.ok('ps', '-aq', '--no-trunc'), `${second}\n${first}\n`);
    assert.match(await daemon.ok('ps', '-a'), /second\n.*first\n$/);
  });

  it('tells where the time of a start went, step by step', async () => {
    await detached('timed', 'sleep', '100');
    const lines = (await daemon.ok('inspect', '--timings', 'timed')).split('\n');
    assert.match(lines[0] ?? '', /^CALL +BY +AT MS +TOOK MS +STEP$/);
    const has = (line: RegExp) =>
      assert.ok(
        lines.some(each => line.test(each)),
        `no ${line.source} in\n${lines.join('\n')}`,
      );
    has(/^RunPodSandbox +daemon +\d+\.\d{3} +\d+\.\d{3} +pin namespaces$/);
    has(/^CreateContainer +init +\d+\.\d{3} +\d+\.\d{3} +PIVOT_ROOT$/);
    has(/^StartContainer +daemon +\d+\.\d{3} +\d+\.\d{3} +wait until the command runs$/);
    const { code, stderr } = await daemon.berth('inspect', '--timings', 'unknown');
    assert.equal(code, 1);
    assert.match(stderr, /unknown/);
  });

  it('are known by name, id and the beginning of an id', async () => {
    const id = await detached('known', 'sleep', '100');
    for (const name of ['known', id, id.slice(0, 12)]) {
      const [found] = JSON.parse(await daemon.ok('inspect', name)) as {
        id: string;
        state: string;
        runtimeSpec: object;
      }[];
      assert.equal(found?.id, id);
      assert.equal(found.state, 'running');
      assert.equal(typeof found.runtimeSpec, 'object');
    }
    const { code, stderr } = await daemon.berth('inspect', '--type', 'container', 'unknown');
    assert.equal(code, 1);
    assert.match(stderr, /^berth: no container is called "unknown"; did you mean known\?\n$/);
  });

  it('are unknown to the kubelet', async () => {
    await detached('mine', 'sleep', '100');
    const answers = await ask(daemon.criSocket);
    assert.deepEqual(answers, { listPodSandbox: 0, listContainers: 0 });
  });

  it('show what they have written, both streams in their order', async () => {
    await detached('writer', 'sh', '-c', 'echo one; sleep 0.05; echo two >&2; sleep 0.05; printf three');
    await exited('writer');
    assert.deepEqual(await daemon.berth('logs', 'writer'), { code: 0, stdout: 'one\nthree', stderr: 'two\n' });
    assert.deepEqual(await daemon.berth('logs', '--tail', '2', 'writer'), {
      code: 0,
      stdout: 'three',
      stderr: 'two\n',
    });
    assert.equal(await daemon.ok('logs', '--tail', '0', 'writer'), '');
    assert.match((await daemon.berth('logs', '-t', 'writer')).stdout, /^\d{4}-\S+Z one\n\d{4}-\S+Z three$/);
    assert.equal(await daemon.ok('logs', '--since', '2100-01-01T00:00:00Z', 'writer'), '');
  });

  it('give the end of a long log without its beginning', async () => {
    await detached('long', 'seq', '300000');
    await exited('long');
    assert.equal(await daemon.ok('logs', '--tail', '3', 'long'), '299998\n299999\n300000\n');
    const { stdout } = await daemon.berth('logs', 'long');
    assert.equal(stdout.split('\n').length, 300_001);
  }).timeout(30_000);

  it('are followed to their end', async () => {
    await detached('followed', 'sh', '-c', 'for i in 1 2 3; do echo $i; sleep 0.1; done');
    assert.equal(await daemon.ok('logs', '-f', 'followed'), '1\n2\n3\n');
    assert.equal(await daemon.ok('logs', '-f', 'followed'), '1\n2\n3\n');
  });

  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    it(`are followed over a restart of the daemon after ${signal}, without a gap or a line twice`, async () => {
      const name = `over-${signal.toLowerCase()}`;
      await detached(name, 'sh', '-c', 'i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; sleep 0.01; done; echo end');
      const following = daemon.start('logs', '-f', name);
      for (const line of ['20', '60']) {
        await following.printed(`\n${line}\n`);
        await daemon.kill(signal);
        await daemon.run();
      }
      await following.printed('\n100\n');
      await daemon.ok('exec', name, 'touch', '/stop');
      const { code, stdout, stderr } = await following.ended;
      assert.equal(code, 0, stderr);
      const lines = stdout.split('\n').slice(0, -2);
      assert.ok(stdout.endsWith('\nend\n'));
      assert.deepEqual(
        lines,
        lines.map((_, i) => String(i + 1)),
      );
    }).timeout(60_000);
  }

  it('are followed until they are removed', async () => {
    await detached('removed', ...counting);
    const following = daemon.start('logs', '-f', 'removed');
    await following.printed('line 3\n');
    await daemon.ok('rm', '-f', 'removed');
    const { code, stdout } = await following.ended;
    assert.equal(code, 0);
    assert.match(stdout, /^line 1\nline 2\nline 3\n/);
  });

  it('end with the stop signal, or are killed after the time-out', async () => {
    await detached('obeys', 'sh', '-c', 'trap "exit 9" TERM; while :; do sleep 0.05; done');
    await detached('ignores', 'sh', '-c', 'trap "" TERM; while :; do sleep 0.05; done');
    await daemon.ok('stop', 'obeys');
    await daemon.ok('stop', '-t', '0', 'ignores');
    assert.match(await daemon.ok('ps', '-a'), /Exited \(137\).*ignores\n.*Exited \(9\).*obeys\n$/);
    await daemon.ok('stop', 'obeys');
  });

  it('get signals', async () => {
    await detached('signalled', 'sh', '-c', 'trap "exit 5" USR1; while :; do sleep 0.05; done');
    await daemon.ok('exec', 'signalled', 'true');
    await daemon.ok('kill', '-s', 'USR1', 'signalled');
    await exited('signalled');
    assert.match(await daemon.ok('ps', '-a'), /Exited \(5\)/);
    const { code, stderr } = await daemon.berth('kill', 'signalled');
    assert.equal(code, 1);
    assert.match(stderr, /^berth: container signalled is exited/);
    assert.match((await daemon.berth('kill', '-s', 'NOSUCH', 'signalled')).stderr, /is not a signal/);
  });

  it('are not removed while they run, unless by force', async () => {
    await detached('runs', 'sleep', '100');
    const { code, stderr } = await daemon.berth('rm', 'runs');
    assert.equal(code, 1);
    assert.match(stderr, /^berth: container runs is running; /);
    await daemon.ok('rm', '-f', 'runs');
    assert.equal(await daemon.ok('ps', '-aq'), '');
  });

  it('run on while the daemon is away, and are removed by the next one where they end meanwhile', async () => {
    const id = await detached('stays', ...counting);
    await daemon.ok('run', '-d', '--rm', '--name', 'goes', image, 'sleep', '0.5');
    await daemon.kill('SIGKILL');
    await new Promise(resolve => setTimeout(resolve, 800));
    await daemon.run();
    await daemon.eventually(
      'the one with --rm is removed',
      async () => (await daemon.ok('ps', '-aq', '--no-trunc')) === `${id}\n`,
    );
    assert.equal(await daemon.ok('exec', 'stays', 'echo', 'here'), 'here\n');
    const before = (await daemon.ok('logs', 'stays')).length;
    await daemon.eventually('its log grows', async () => (await daemon.ok('logs', 'stays')).length > before);
  }).timeout(20_000);
});

/** How many pods and containers the kubelet sees, by a codec that is not ours. */
async function ask(socket: string): Promise<Record<string, number>> {
  const definition = loadSync('runtime/v1/api.proto', { includeDirs: [`${repoRoot}/proto`] });
  const loaded = loadPackageDefinition(definition) as unknown as {
    runtime: { v1: { RuntimeService: ServiceClientConstructor } };
  };
  const client = new loaded.runtime.v1.RuntimeService(`unix:${socket}`, credentials.createInsecure());
  type Unary = (request: object, reply: (error: Error | null, response: Record<string, object[]>) => void) => void;
  const count = (rpc: string) =>
    new Promise<number>((resolve, reject) => {
      const method = (client as Client & Record<string, unknown>)[rpc] as Unary;
      method.call(client, {}, (error, response) =>
        error ? reject(error) : resolve((response['items'] ?? response['containers'] ?? []).length),
      );
    });
  try {
    return { listPodSandbox: await count('listPodSandbox'), listContainers: await count('listContainers') };
  } finally {
    client.close();
  }
}
