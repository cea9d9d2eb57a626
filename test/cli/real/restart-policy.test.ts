import assert from 'node:assert/strict';
import { busyboxImage } from '../../support/image-builder';
import { RealDaemon } from './harness';

const image = 'localhost/busybox:1';

describe('restart policies and health, with a real daemon', function () {
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

  const inspected = async (name: string) => {
    const [found] = JSON.parse(await daemon.ok('inspect', name)) as {
      state: string;
      restarts: number;
      health: { status: string; failingStreak: number; log: { output: string }[] } | null;
    }[];
    assert.ok(found);
    return found;
  };
  const runs = (name: string) =>
    daemon.eventually(`${name} runs`, async () => (await inspected(name)).state === 'running', 60_000);
  /** Ends as often as it is told, then stays. */
  const counting = (ends: number, code: number) => [
    'sh',
    '-c',
    `echo x >> /runs; [ $(wc -l < /runs) -gt ${ends} ] && exec sleep 1000; exit ${code}`,
  ];

  it('always starts it again, whatever its exit code, until a person stops it', async () => {
    await daemon.ok('run', '-d', '--name', 'always', '--restart', 'always', image, ...counting(2, 0));
    await daemon.eventually(
      'it was started twice more',
      async () => (await inspected('always')).restarts === 2,
      60_000,
    );
    await runs('always');
    await daemon.ok('stop', '-t', '0', 'always');
    assert.equal((await inspected('always')).state, 'exited');
    await daemon.kill('SIGKILL');
    await daemon.run();
    await runs('always');
  });

  it('on-failure starts it again so often, and not after a success', async () => {
    await daemon.ok('run', '-d', '--name', 'fails', '--restart', 'on-failure:2', image, ...counting(9, 5));
    await daemon.eventually(
      'it is given up',
      async () => {
        const { restarts, state } = await inspected('fails');
        return restarts === 2 && state === 'exited' && /Exited \(5\)/.test(await daemon.ok('ps', '-a'));
      },
      60_000,
    );
    assert.equal(await daemon.ok('run', '--restart', 'on-failure', '--name', 'fine', image, 'echo', 'once'), 'once\n');
    assert.equal((await inspected('fine')).restarts, 0);
  });

  it('unless-stopped is what a person has stopped, also for the next daemon', async () => {
    await daemon.ok('run', '-d', '--name', 'stays', '--restart', 'unless-stopped', image, 'sleep', '1000');
    await daemon.ok('run', '-d', '--name', 'stopped', '--restart', 'unless-stopped', image, 'sleep', '1000');
    await daemon.ok('stop', '-t', '0', 'stopped');
    await daemon.kill('SIGKILL');
    await daemon.run();
    await runs('stays');
    assert.equal((await inspected('stopped')).state, 'exited');
    await daemon.ok('start', 'stopped');
    await daemon.ok('kill', 'stopped');
    await daemon.eventually('it has ended', async () => (await inspected('stopped')).state === 'exited');
    assert.equal((await inspected('stopped')).restarts, 0);
  });

  it('health is what the check says', async () => {
    const flags = [
      '--health-cmd',
      'cat /state; test "$(cat /state)" = fine',
      '--health-interval',
      '100ms',
      '--health-retries',
      '2',
    ];
    await daemon.ok('run', '-d', '--name', 'checked', ...flags, image, 'sh', '-c', 'echo fine > /state; sleep 1000');
    const has = (status: string) =>
      daemon.eventually(status, async () => (await inspected('checked')).health?.status === status, 60_000);
    await has('healthy');
    assert.match(await daemon.ok('ps'), /Up .* \(healthy\)/);
    await daemon.ok('exec', 'checked', 'sh', '-c', 'echo ill > /state');
    await has('unhealthy');
    const { health } = await inspected('checked');
    assert.ok((health?.failingStreak ?? 0) >= 2);
    assert.equal(health?.log.at(-1)?.output, 'ill\n');
    await daemon.kill('SIGTERM');
    await daemon.run();
    await has('unhealthy');
  });

  it('health of an image is checked unless a person says no', async () => {
    const Healthcheck = { Test: ['CMD', 'true'], Interval: 100_000_000 };
    await daemon.import(busyboxImage({ config: { Healthcheck } }), 'localhost/checked:1');
    await daemon.ok('run', '-d', '--name', 'own', 'localhost/checked:1', 'sleep', '1000');
    await daemon.ok('run', '-d', '--name', 'none', '--no-healthcheck', 'localhost/checked:1', 'sleep', '1000');
    await daemon.eventually('it is healthy', async () => (await inspected('own')).health?.status === 'healthy', 60_000);
    assert.equal((await inspected('none')).health, null);
  });
});
