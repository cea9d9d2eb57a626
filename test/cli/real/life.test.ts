import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { RealDaemon } from './harness';

const image = 'localhost/busybox:1';

describe('the life of containers, with a real daemon', function () {
  this.timeout(240_000);

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

  const stateOf = async (name: string) => {
    const [found] = JSON.parse(await daemon.ok('inspect', name)) as { state: string; exitCode: number; pid: number }[];
    assert.ok(found);
    return found;
  };

  it('create makes one that start starts, once', async () => {
    const id = (await daemon.ok('create', '--name', 'made', image, 'sh', '-c', 'echo hello; sleep 100')).trim();
    assert.match(id, /^[0-9a-f]{64}$/);
    assert.equal((await stateOf('made')).state, 'created');
    assert.equal(await daemon.ok('start', 'made'), 'made\n');
    assert.equal((await stateOf('made')).state, 'running');
    await daemon.eventually('it has written', async () => (await daemon.ok('logs', 'made')) === 'hello\n');
    const again = await daemon.berth('start', 'made');
    assert.deepEqual(again, { code: 1, stdout: '', stderr: 'berth: container made is running already\n' });
  });

  it('start runs what has exited again, over its own files and into its own log', async () => {
    const count = 'echo x >> /count; wc -l < /count; exit 3';
    assert.deepEqual(await daemon.berth('run', '--name', 'again', image, 'sh', '-c', count), {
      code: 3,
      stdout: '1\n',
      stderr: '',
    });
    assert.equal((await daemon.berth('start', 'again')).code, 0);
    assert.equal(await daemon.ok('wait', 'again'), '3\n');
    assert.equal(await daemon.ok('logs', 'again'), '1\n2\n');
    assert.deepEqual(await daemon.berth('start', '-a', 'again'), { code: 3, stdout: '3\n', stderr: '' });
    assert.equal((await stateOf('again')).exitCode, 3);
  });

  it('start -ai hands stdin on', async () => {
    await daemon.ok('create', '-i', '--name', 'reads', image, 'cat');
    assert.deepEqual(await daemon.berthWith('one\n', 'start', '-ai', 'reads'), {
      code: 0,
      stdout: 'one\n',
      stderr: '',
    });
    assert.deepEqual(await daemon.berthWith('two\n', 'start', '-ai', 'reads'), {
      code: 0,
      stdout: 'two\n',
      stderr: '',
    });
    const several = await daemon.berth('start', '-a', 'reads', 'reads');
    assert.equal(several.code, 1);
    assert.match(several.stderr, /^berth: several containers cannot be attached to at once; /);
  });

  it('a start that fails can be tried again', async () => {
    await daemon.ok('create', '--name', 'fails', image, '/not-there');
    for (const _ of [1, 2]) {
      const { code, stderr } = await daemon.berth('start', 'fails');
      assert.equal(code, 1);
      assert.match(stderr, /not-there/);
    }
  });

  it('restart ends it and starts it anew', async () => {
    await daemon.ok(
      'run',
      '-d',
      '--name',
      'renewed',
      image,
      'sh',
      '-c',
      'trap "exit 0" TERM; while :; do sleep 0.05; done',
    );
    const { pid } = await stateOf('renewed');
    assert.equal(await daemon.ok('restart', 'renewed'), 'renewed\n');
    const after = await stateOf('renewed');
    assert.equal(after.state, 'running');
    assert.notEqual(after.pid, pid);
    await daemon.ok('stop', '-t', '0', 'renewed');
    await daemon.ok('restart', 'renewed');
    assert.equal((await stateOf('renewed')).state, 'running');
  });

  it('what was started again is met again by the next daemon, and ends properly', async () => {
    await daemon.berth('run', '--name', 'met', image, 'sh', '-c', 'test -e /second && exec sleep 100; touch /second');
    await daemon.ok('start', 'met');
    await daemon.kill('SIGKILL');
    await daemon.run();
    assert.equal((await stateOf('met')).state, 'running');
    await daemon.ok('restart', '-t', '0', 'met');
    assert.equal((await stateOf('met')).state, 'running');
  });

  for (const point of ['relaunch.launched', 'relaunch.created', 'relaunch.recorded']) {
    it(`a daemon that is killed at ${point} leaves a container that starts`, async () => {
      await daemon.berth(
        'run',
        '--name',
        'crashed',
        image,
        'sh',
        '-c',
        'test -e /second && exec sleep 100; touch /second',
      );
      await daemon.kill('SIGTERM');
      await daemon.run({ BERTH_CRASH_AT: point });
      const { code } = await daemon.berth('start', 'crashed');
      assert.equal(code, 1);
      await daemon.run();
      await daemon.ok('start', 'crashed');
      assert.equal((await stateOf('crashed')).state, 'running');
      await daemon.ok('rm', '-f', 'crashed');
    });
  }

  it('a container starts again when a reboot has taken its pod and its state', async () => {
    const count = 'echo x >> /count; wc -l < /count; cat /etc/hostname';
    const first = await daemon.berth('run', '--name', 'rebooted', '-h', 'boat', image, 'sh', '-c', count);
    assert.equal(first.stdout, '1\nboat\n');
    await daemon.kill('SIGKILL');
    // What lies on a tmpfs, and what is mounted there.
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
    const below = mounts.map(line => line.split(' ')[4] ?? '').filter(path => path.startsWith(daemon.path('state/')));
    for (const path of below) execFileSync('umount', [path]);
    rmSync(daemon.path('state'), { recursive: true });
    await daemon.run();
    const [pod] = JSON.parse(await daemon.ok('inspectp', 'berth/rebooted')) as { state: string }[];
    assert.equal(pod?.state, 'notready');
    assert.deepEqual(await daemon.berth('start', '-a', 'rebooted'), { code: 0, stdout: '2\nboat\n', stderr: '' });
  });

  it('rename gives another name and frees the old one', async () => {
    const id = (await daemon.ok('run', '-d', '--name', 'old', image, 'sleep', '100')).trim();
    await daemon.ok('rename', 'old', 'new');
    assert.equal(await daemon.ok('ps', '-q', '--no-trunc'), `${id}\n`);
    assert.match(await daemon.ok('ps'), / new\n$/);
    assert.equal((await daemon.berth('inspect', '--type', 'container', 'old')).code, 1);
    await daemon.ok('run', '-d', '--name', 'old', image, 'sleep', '100');
    const taken = await daemon.berth('rename', 'new', 'old');
    assert.equal(taken.code, 1);
    assert.match(taken.stderr, /the name old is taken/);
    const wrong = await daemon.berth('rename', 'new', 'a/b');
    assert.match(wrong.stderr, /cannot be a container's name/);
  });

  it('pause holds all processes still until unpause, also for stop', async () => {
    const beats = 'i=0; while :; do i=$((i+1)); echo $i > /beat; done';
    await daemon.ok('run', '-d', '--name', 'held', image, 'sh', '-c', beats);
    const beat = async () => await daemon.ok('logs', 'held');
    assert.equal(await beat(), '');
    assert.equal(await daemon.ok('pause', 'held'), 'held\n');
    const { pid } = await stateOf('held');
    assert.ok(await isStill(pid));
    const twice = await daemon.berth('pause', 'held');
    assert.deepEqual(twice, { code: 1, stdout: '', stderr: 'berth: container held is paused already\n' });
    const exec = await daemon.berth('exec', 'held', 'true');
    assert.equal(exec.code, 1);
    assert.match(exec.stderr, /is paused/);
    assert.match(await daemon.ok('ps'), /Up .* \(Paused\)/);
    assert.equal(await daemon.ok('unpause', 'held'), 'held\n');
    await daemon.eventually('it runs on', async () => !(await isStill(pid)));
    const running = await daemon.berth('unpause', 'held');
    assert.match(running.stderr, /is not paused/);
    await daemon.ok('pause', 'held');
    await daemon.ok('stop', '-t', '0', 'held');
    assert.equal((await stateOf('held')).state, 'exited');
    const ended = await daemon.berth('pause', 'held');
    assert.match(ended.stderr, /only a running one can be paused/);
  });

  it('wait gives each exit code', async () => {
    await daemon.ok('run', '-d', '--name', 'three', image, 'sh', '-c', 'exit 3');
    await daemon.ok('run', '-d', '--name', 'four', image, 'sh', '-c', 'sleep 0.2; exit 4');
    assert.deepEqual(await daemon.berth('wait', 'three', 'nobody', 'four'), {
      code: 1,
      stdout: '3\n4\n',
      stderr: 'berth: no container is called "nobody"\n',
    });
  });
});

/** True when a busy process uses no processor. */
async function isStill(pid: number): Promise<boolean> {
  const used = () => readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ').slice(13, 15).join(' ');
  const before = used();
  await new Promise(resolve => setTimeout(resolve, 150));
  return used() === before;
}
