import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { LayerProgress_Phase as Phase, PullPolicy } from '../../src/cri/generated/berth/v1/berth';
import { RunOptions } from '../../src/cri/generated/berth/v1/run';
import { berthFile } from '../support/programs';
import { berth, startBerth } from './berth';
import { FakeContainer, fakeId } from './fake-container';
import { FakeDaemon, Wire, failure } from './fake-daemon';

describe('berth run', () => {
  it('watches before it starts, keeps the streams apart, byte for byte, and exits with the code', async () => {
    const bytes = Buffer.from([0, 0xff, 0xfe, 0x0a, 0x80]);
    const container = new FakeContainer(async c => {
      await c.out('one\n');
      await c.err('oops\n');
      await c.out(bytes);
      await c.out('no newline');
      return 42;
    });
    await using daemon = await FakeDaemon.start(container.handlers());

    const running = startBerth(daemon, ['run', 'alpine', 'sh', '-c', 'true']);
    const { code } = await running.ended;

    assert.deepEqual(running.stdout, Buffer.concat([Buffer.from('one\n'), bytes, Buffer.from('no newline')]));
    assert.equal(running.stderr.toString(), 'oops\n');
    assert.equal(code, 42);
    assert.deepEqual(container.watchedAtStart.sort(), ['logs', 'wait']);
    assert.deepEqual(container.request?.args, ['sh', '-c', 'true']);
  });

  it('loses nothing of a large output to a slow reader', async () => {
    const line = `${'x'.repeat(1023)}\n`;
    const container = new FakeContainer(async c => {
      for (let i = 0; i < 4096; i++) await c.out(line);
      return 0;
    });
    await using daemon = await FakeDaemon.start(container.handlers());

    const running = startBerth(daemon, ['run', 'alpine']);
    running.child.stdout.pause();
    setTimeout(() => running.child.stdout.resume(), 300);
    const { code, stdout } = await running.ended;

    assert.equal(code, 0);
    assert.equal(stdout.length, 4096 * 1024);
  });

  it('-d prints the whole id, and starts', async () => {
    const container = new FakeContainer(() => new Promise(() => undefined));
    await using daemon = await FakeDaemon.start(container.handlers());

    const ended = await berth(daemon, ['run', '-d', 'alpine', 'sleep', '100']);

    assert.deepEqual(ended, { code: 0, stdout: `${fakeId}\n`, stderr: '' });
    assert.deepEqual(container.watchedAtStart, []);
  });

  it('sends all options', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'berth-cli-'));
    writeFileSync(join(folder, 'env'), Buffer.concat([Buffer.from('# comment\nFILE=a b\nRAW='), Buffer.from([0xff])]));
    const container = new FakeContainer(async () => 0);
    await using daemon = await FakeDaemon.start(container.handlers());

    const args = [
      'run',
      '--rm',
      '--name',
      'web',
      '-e',
      'A=1=2',
      '-e',
      'HANDED',
      '-e',
      'ABSENT',
      '--env-file',
      `${folder}/env`,
    ];
    args.push('-w', '/srv', '-u', '1000:100', '-v', '/data:/data:ro', '-v', './x:/x', '--entrypoint', '/bin/sh');
    args.push(
      '--network',
      'host',
      '--hostname',
      'ship',
      '--label',
      'k=v',
      '--pull',
      'never',
      'alpine',
      '-e',
      '--',
      'x',
    );
    const { code, stderr } = await startBerth(daemon, args, { HANDED: 'on' }).ended;
    rmSync(folder, { recursive: true });

    assert.equal(stderr, '');
    assert.equal(code, 0);
    assert.deepEqual(container.request, {
      image: 'alpine',
      pull: PullPolicy.PULL_POLICY_NEVER,
      name: 'web',
      entrypoint: '/bin/sh',
      args: ['-e', '--', 'x'],
      env: [
        { key: 'FILE', value: Buffer.from('a b') },
        { key: 'RAW', value: Buffer.from([0xff]) },
        { key: 'A', value: Buffer.from('1=2') },
        { key: 'HANDED', value: Buffer.from('on') },
      ],
      workingDir: '/srv',
      user: '1000:100',
      mounts: [
        {
          source: '/data',
          target: '/data',
          readonly: true,
          propagation: '',
          volume: '',
          relabel: false,
          noCopy: false,
        },
        {
          source: resolve('./x'),
          target: '/x',
          readonly: false,
          propagation: '',
          volume: '',
          relabel: false,
          noCopy: false,
        },
      ],
      hostname: 'ship',
      network: 'host',
      ports: [],
      publishAll: false,
      labels: { k: 'v' },
      autoRemove: true,
      tty: false,
      stdin: false,
      stdinOnce: false,
      options: RunOptions.fromPartial({}),
    });
  });

  it('shows the pull on stderr, so that stdout is the id alone', async () => {
    const container = new FakeContainer(async () => 0);
    const create: ReturnType<FakeContainer['handlers']>['create'] = call => {
      const layer = { digest: `sha256:${'ab'.repeat(32)}`, doneBytes: 0n, totalBytes: 10n };
      call.write({ progress: { layers: [{ ...layer, phase: Phase.DOWNLOADING }] } });
      call.write({ progress: { layers: [{ ...layer, phase: Phase.DONE }] } });
      call.write({ created: { id: fakeId, name: 'web' } });
      call.end();
    };
    await using daemon = await FakeDaemon.start({ ...container.handlers(), create });

    const loud = await berth(daemon, ['run', '-d', 'alpine']);
    const quiet = await berth(daemon, ['run', '-dq', 'alpine']);

    assert.equal(loud.stdout, `${fakeId}\n`);
    assert.equal(loud.stderr, 'abababababab: Downloading\nabababababab: Pull complete\n');
    assert.deepEqual(quiet, { code: 0, stdout: `${fakeId}\n`, stderr: '' });
  });

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1'] as const) {
    it(`forwards ${signal}, and takes the container's code, not its own`, async () => {
      const container = new FakeContainer(async c => {
        await c.out('ready\n');
        return (await c.signal()) === signal ? 17 : 1;
      });
      await using daemon = await FakeDaemon.start(container.handlers());

      const running = startBerth(daemon, ['run', 'alpine']);
      await running.printed('ready');
      running.child.kill(signal);

      assert.equal((await running.ended).code, 17);
      assert.deepEqual(container.signals, [signal]);
    });
  }

  it('forwards a signal while the reader of its output is stuck', async () => {
    let written = 0;
    const container = new FakeContainer(async c => {
      const signal = c.signal();
      void (async () => {
        for (; written < 4096; written++) await c.out('x'.repeat(1024));
      })();
      await signal;
      return 9;
    });
    await using daemon = await FakeDaemon.start(container.handlers());

    const running = startBerth(daemon, ['run', 'alpine']);
    running.child.stdout.pause();
    for (let before = -1; written === 0 || written !== before; await sleep(300)) before = written;
    running.child.kill('SIGTERM');
    while (container.signals.length === 0) await sleep(10);

    assert.deepEqual(container.signals, ['SIGTERM']);
    running.child.kill('SIGKILL');
    running.child.stdout.resume();
    await running.ended;
  });

  it('gives 127, 126 and 125 for a command that is not there, cannot be invoked, and errors of its own', async () => {
    const cases = [
      { reason: 'command_not_found', code: 127 },
      { reason: 'command_not_invokable', code: 126 },
      { code: 125 },
    ];
    for (const { reason, code } of cases) {
      const details = 'start web: exec "nope": no such file in $PATH';
      const fails = { code: status.FAILED_PRECONDITION, details, ...(reason === undefined ? {} : { reason }) };
      const container = new FakeContainer(async () => 0, fails);
      await using daemon = await FakeDaemon.start(container.handlers());
      for (const flags of [[], ['-d']]) {
        const ended = await berth(daemon, ['run', ...flags, 'alpine', 'nope']);
        assert.deepEqual(ended, { code, stdout: '', stderr: `berth: ${details}\n` });
      }
    }
  });

  it('says why an image cannot be had, with 125', async () => {
    const details = 'pull nope:1: registry.example answered 404: no such repository; check the name';
    await using daemon = await FakeDaemon.start({
      create: call => void call.emit('error', failure(status.NOT_FOUND, details)),
    });
    const ended = await berth(daemon, ['run', 'nope:1']);
    assert.deepEqual(ended, { code: 125, stdout: '', stderr: `berth: ${details}\n` });
  });

  it('refuses -it without a terminal, and wrong flags, with 125', async () => {
    const terminal = await berth('/nowhere', ['run', '-it', 'alpine']);
    assert.deepEqual(terminal, { code: 125, stdout: '', stderr: 'berth: stdin is not a terminal; leave out -t\n' });

    const flag = await berth('/nowhere', ['run', '--naem', 'x', 'alpine']);
    assert.deepEqual(flag, { code: 125, stdout: '', stderr: "berth: unknown option '--naem'; did you mean --name?\n" });
  });

  for (const end of ['ends', 'is killed'] as const) {
    it(`says that the daemon was lost, and that the container was not, when the daemon ${end}`, async () => {
      const container = new FakeContainer(async c => {
        await c.out('ready\n');
        return await new Promise<number>(() => undefined);
      });
      await using daemon = await FakeDaemon.start(container.handlers());
      await using wire = await Wire.to(daemon);
      const running = startBerth(wire.socket, ['run', 'alpine']);
      await running.printed('ready');
      if (end === 'ends') await daemon[Symbol.asyncDispose]();
      else wire.cut();

      const { code, stderr } = await running.ended;
      assert.equal(code, 125);
      assert.match(
        stderr,
        /^berth: the connection to the daemon on .* was lost; containers run on; see whether berthd does\n$/,
      );
    });
  }

  it('ends quietly, as if by SIGPIPE, when nobody reads', async () => {
    const container = new FakeContainer(async c => {
      for (let i = 0; i < 100_000; i++) await c.out('line\n');
      return 0;
    });
    await using daemon = await FakeDaemon.start(container.handlers());
    const script = `"${process.execPath}" "${berthFile}" run alpine | head -n 1; echo "\${PIPESTATUS[0]}"`;
    const shell = spawn('bash', ['-c', script], { env: { ...process.env, BERTH_HOST: daemon.socket } });
    let stdout = '';
    let stderr = '';
    shell.stdout.on('data', chunk => (stdout += String(chunk)));
    shell.stderr.on('data', chunk => (stderr += String(chunk)));
    await once(shell, 'close');

    assert.equal(stderr, '');
    assert.equal(stdout, 'line\n141\n');
  });
});
