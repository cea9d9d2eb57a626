import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { CriClient } from '../../support/cri-client';
import { RealDaemon } from './harness';

describe('berth stats and berth top', function () {
  this.timeout(120_000);
  let daemon: RealDaemon;

  before(async () => {
    daemon = await RealDaemon.start();
    await daemon.importBusybox('box:1');
  });
  after(async () => {
    assert.deepEqual(await daemon.stop(), []);
  });
  afterEach(async () => {
    const ids = (await daemon.ok('ps', '-aq')).split('\n').filter(id => id !== '');
    if (ids.length > 0) await daemon.ok('rm', '-f', ...ids);
  });

  const json = async (...args: string[]) =>
    (await daemon.ok('stats', '--no-stream', '--format', 'json', ...args))
      .split('\n')
      .filter(line => line !== '')
      .map(line => JSON.parse(line) as Record<string, string>);

  it('shows docker’s columns of what runs, with the rate of CPU time', async () => {
    await daemon.ok('run', '-d', '--name', 'busy', 'box:1', 'sh', '-c', 'while :; do :; done');
    await daemon.ok('run', '-d', '--name', 'idle', 'box:1', 'sleep', '1000');
    await daemon.ok('run', '--name', 'ended', 'box:1', 'true');
    const lines = (await daemon.ok('stats', '--no-stream')).trimEnd().split('\n');
    assert.match(lines[0] ?? '', /^CONTAINER ID +NAME +CPU % +MEM USAGE \/ LIMIT +MEM % +NET I\/O +BLOCK I\/O +PIDS$/);
    assert.equal(lines.length, 3);
    const line = lines.find(text => text.includes(' idle ')) ?? '';
    assert.match(
      line,
      /^[0-9a-f]{12} +idle +\d+\.\d\d% +[\d.]+(B|KiB|MiB) \/ [\d.]+GiB +\d+\.\d\d% +0B \/ 0B +\S+ \/ \S+ +1$/,
    );
    const [busy] = await json('busy');
    assert.ok(Number.parseFloat(busy?.['CPUPerc'] ?? '') > 0, JSON.stringify(busy));
    assert.match(busy?.['DiskUsage'] ?? '', /^[\d.]+k?B$/);
  });

  it('shows those that do not run when asked for all, or for them', async () => {
    await daemon.ok('run', '--name', 'ended', 'box:1', 'true');
    assert.deepEqual(await json(), []);
    for (const args of [['-a'], ['ended']]) {
      const [ended] = await json(...args);
      const { Name, CPUPerc, MemUsage, PIDs } = ended ?? {};
      assert.deepEqual([Name, CPUPerc, MemUsage, PIDs], ['ended', '--', '-- / --', '--']);
    }
  });

  it('takes templates, and refuses unknown fields and containers', async () => {
    const id = (await daemon.ok('run', '-d', '--name', 'web', 'box:1', 'sleep', '1000')).trim();
    const line = await daemon.ok('stats', '--no-stream', '--no-trunc', '--format', '{{.Name}} {{.ID}} {{.PIDs}}');
    assert.equal(line, `web ${id} 1\n`);
    const wrong = await daemon.berth('stats', '--no-stream', '--format', '{{.Nothing}}');
    assert.deepEqual([wrong.code, /there is no \.Nothing/.test(wrong.stderr)], [1, true]);
    const nobody = await daemon.berth('stats', '--no-stream', 'nobody');
    assert.deepEqual([nobody.code, /no container is called "nobody"/.test(nobody.stderr)], [1, true]);
  });

  it('goes on every second, with what is started meanwhile', async () => {
    const running = daemon.start('stats', '--format', '{{.Name}}');
    await daemon.ok('run', '-d', '--name', 'late', 'box:1', 'sleep', '1000');
    await daemon.eventually('the new container is shown', () => running.stdout.includes('late\n'));
    running.child.kill('SIGTERM');
    await running.ended;
  });

  it('shows the kubelet’s containers, as pod/name', async () => {
    const client = new CriClient(daemon.criSocket);
    try {
      const metadata = { name: 'dns', namespace: 'kube-system', uid: 'u', attempt: 0 };
      const { podSandboxId } = await client.call('RunPodSandbox', { config: { metadata } });
      const config = {
        metadata: { name: 'server', attempt: 0 },
        image: { image: 'box:1' },
        command: ['sleep', '1000'],
      };
      const { containerId } = await client.call('CreateContainer', { podSandboxId, config });
      await client.call('StartContainer', { containerId });
      assert.deepEqual(
        (await json()).map(({ Name }) => Name),
        ['dns/server'],
      );
      await client.call('RemovePodSandbox', { podSandboxId });
    } finally {
      client.close();
    }
  });

  it('top shows the processes of a container, with the host’s numbers', async () => {
    const command = 'sleep 1000 & exec sleep 2000';
    await daemon.ok('run', '-d', '--name', 'two', '--user', '1234', 'box:1', 'sh', '-c', command);
    const lines = (await daemon.ok('top', 'two')).trimEnd().split('\n');
    assert.match(lines[0] ?? '', /^UID +PID +PPID +C +STIME +TTY +TIME +CMD$/);
    assert.equal(lines.length, 3);
    const first = lines.find(line => line.endsWith('sleep 2000')) ?? '';
    const [, user, pid = ''] = /^(\S+) +(\d+) +\d+ +0 +\d\d:\d\d +\? +00:00:00 +sleep 2000$/.exec(first) ?? [];
    assert.equal(user, '1234');
    assert.match(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), /^sleep\x002000\x00$/);
    const child = lines.find(line => line.endsWith('sleep 1000')) ?? '';
    assert.equal(child.split(/ +/)[2], pid);
  });

  it('top tells all as JSON, and refuses a container that does not run', async () => {
    await daemon.ok('run', '-d', '--name', 'one', 'box:1', 'sleep', '1000');
    const process = JSON.parse(await daemon.ok('top', '--format', 'json', 'one')) as Record<string, unknown>;
    assert.deepEqual(process['command'], ['sleep', '1000']);
    assert.ok(Number(process['rssBytes']) > 0);
    const sinceMs = Date.now() - Date.parse(String(process['startedAt']));
    assert.ok(Math.abs(sinceMs) < 60_000, String(process['startedAt']));
    await daemon.ok('run', '--name', 'ended', 'box:1', 'true');
    const { code, stderr } = await daemon.berth('top', 'ended');
    assert.deepEqual([code, /container ended is exited/.test(stderr)], [1, true]);
  });
});
