import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { busyboxImage } from '../../support/image-builder';
import { RealDaemon } from './harness';

const image = 'localhost/busybox:1';

describe('restart policies and health, with a real daemon', function () {
  this.timeout(240_000);

  const cdi = mkdtempSync(join(tmpdir(), 'berth-cdi-'));
  let daemon: RealDaemon;

  before(async () => {
    daemon = await RealDaemon.start(`[cdi]\nspec_dirs = [${JSON.stringify(cdi)}]\n`);
    await daemon.importBusybox(image);
  });
  after(async () => {
    rmSync(cdi, { recursive: true });
    assert.deepEqual(await daemon.stop(), []);
  });
  afterEach(async () => {
    const ids = (await daemon.ok('ps', '-aq')).split('\n').filter(id => id !== '');
    if (ids.length > 0) await daemon.ok('rm', '-f', ...ids);
  });

  const inspected = async (name: string) => {
    const [found] = JSON.parse(await daemon.ok('inspect', name)) as {
      state: string;
      exitCode: number;
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
    // What ends for a restart is not the policy's to start.
    await daemon.ok('restart', '-t', '0', 'always');
    await daemon.ok('restart', '-t', '0', 'always');
    const { state, restarts } = await inspected('always');
    assert.deepEqual({ state, restarts }, { state: 'running', restarts: 0 });
  });

  it('a stop while it is being started again holds', async () => {
    // A hook keeps every start but the first one waiting.
    const path = join(cdi, 'slow');
    const wait = `cd ${cdi}; if test -e first; then : > reached; until test -e go; do sleep 0.05; done; fi; : > first`;
    writeFileSync(path, `#!/bin/sh\n${wait}\n`, { mode: 0o755 });
    const hooks = [{ hookName: 'createRuntime', path, env: ['PATH=/usr/bin:/bin'] }];
    const devices = [{ name: 'x', containerEdits: { hooks } }];
    writeFileSync(join(cdi, 'slow.json'), JSON.stringify({ cdiVersion: '0.6.0', kind: 'hook.com/slow', devices }));
    const flags = ['--name', 'held', '--restart', 'always', '--device', 'hook.com/slow=x'];
    await daemon.ok('run', '-d', ...flags, image, ...counting(1, 0));
    await daemon.eventually('it is being started again', () => existsSync(join(cdi, 'reached')), 60_000);
    const shown = async () => daemon.ok('ps', '-a', '--filter', 'name=held', '--format', '{{.State}}');
    assert.equal(await shown(), 'restarting\n');
    // A kill that is refused changes nothing.
    assert.match((await daemon.berth('kill', 'held')).stderr, /container held is exited/);
    assert.equal(await shown(), 'restarting\n');
    const stop = daemon.ok('stop', '-t', '0', 'held');
    await daemon.eventually('the stop is noted', async () => (await shown()) === 'exited\n', 60_000);
    writeFileSync(join(cdi, 'go'), '');
    await stop;
    const { state, exitCode } = await inspected('held');
    assert.deepEqual({ state, exitCode }, { state: 'exited', exitCode: 137 });
  });

  it('a daemon that is killed when it has made one ready leaves its start to the next', async () => {
    await daemon.kill('SIGTERM');
    await daemon.run({ BERTH_CRASH_AT: 'relaunch.recorded' });
    await daemon.berth('run', '-d', '--name', 'ready', '--restart', 'always', image, ...counting(1, 0));
    await daemon.eventually('it is killed', async () => (await daemon.berth('ps')).code !== 0, 60_000);
    await daemon.kill('SIGKILL');
    await daemon.run();
    await runs('ready');
    assert.equal((await inspected('ready')).restarts, 1);
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
    await daemon.kill('SIGKILL');
    await daemon.run();
    const { restarts, state } = await inspected('fails');
    assert.deepEqual({ restarts, state }, { restarts: 2, state: 'exited' }); // for the next daemon, too
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
