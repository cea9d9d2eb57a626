import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { status, type ServerDuplexStream } from '@grpc/grpc-js';
import type { BerthServer, ExecRequest, ExecResponse, ExecStart } from '../../src/cri/generated/berth/v1/berth';
import { berthFile } from '../support/programs';
import { berth, startBerth } from './berth';
import { FakeDaemon, failure } from './fake-daemon';

type Call = ServerDuplexStream<ExecRequest, ExecResponse>;

/** A daemon whose exec hands each request after the first to `on`. */
async function execDaemon(
  onStart: (start: ExecStart, call: Call) => void,
  on: (request: ExecRequest, call: Call) => void = () => undefined,
): Promise<FakeDaemon> {
  const exec: BerthServer['exec'] = call => {
    call.on('data', (request: ExecRequest) => (request.start ? onStart(request.start, call) : on(request, call)));
    call.on('end', () => call.end());
  };
  return await FakeDaemon.start({ exec });
}

function end(call: Call, exitCode: number): void {
  call.write({ exitCode });
  call.end();
}

describe('berth exec', () => {
  it('keeps the streams apart, and exits with the code of the command', async () => {
    let start: ExecStart | undefined;
    await using daemon = await execDaemon((request, call) => {
      start = request;
      call.write({ stdout: Buffer.from([0xff, 0x00]) });
      call.write({ stderr: Buffer.from('oops') });
      end(call, 3);
    });

    const running = startBerth(daemon, ['exec', '-e', 'A=b', '-w', '/srv', '-u', 'app', 'web', 'ls', '-i', '--help']);
    const { code, stderr } = await running.ended;

    assert.deepEqual(running.stdout, Buffer.from([0xff, 0x00]));
    assert.equal(stderr, 'oops');
    assert.equal(code, 3);
    assert.deepEqual(start, {
      container: 'web',
      command: ['ls', '-i', '--help'],
      env: [{ key: 'A', value: Buffer.from('b') }],
      workingDir: '/srv',
      user: 'app',
      tty: false,
      stdin: false,
      size: undefined,
    });
  });

  it('-i hands on stdin, byte for byte, to its end', async () => {
    const input = 'some input\n'.repeat(100_000);
    await using daemon = await execDaemon(
      start => assert.equal(start.stdin, true),
      ({ stdin, stdinClose }, call) => {
        if (stdin) call.write({ stdout: stdin });
        if (stdinClose) end(call, 0);
      },
    );
    const { code, stdout } = await berth(daemon, ['exec', '-i', 'web', 'cat'], input);
    assert.equal(code, 0);
    assert.equal(stdout, input);
  });

  it('ends with the command, even when its stdin is still open', async () => {
    await using daemon = await execDaemon((_, call) => end(call, 5));
    const running = startBerth(daemon, ['exec', '-i', 'web', 'true']);
    assert.equal((await running.ended).code, 5);
  });

  it('forwards signals to the command', async () => {
    await using daemon = await execDaemon(
      (_, call) => call.write({ stdout: Buffer.from('ready\n') }),
      ({ signal }, call) => end(call, signal === 'SIGINT' ? 130 : 1),
    );
    const running = startBerth(daemon, ['exec', 'web', 'sleep', '100']);
    await running.printed('ready');
    running.child.kill('SIGINT');
    assert.equal((await running.ended).code, 130);
  });

  it('gives 127 and 126 for a command that does not start, and 1 for errors of its own', async () => {
    const cases = [
      { code: 127, reason: 'command_not_found', grpc: status.FAILED_PRECONDITION },
      { code: 126, reason: 'command_not_invokable', grpc: status.FAILED_PRECONDITION },
      { code: 1, reason: undefined, grpc: status.NOT_FOUND },
    ];
    for (const { code, reason, grpc } of cases) {
      await using daemon = await execDaemon(
        (_, call) => void call.emit('error', failure(grpc, 'exec in web: no', reason)),
      );
      const ended = await berth(daemon, ['exec', 'web', 'nope']);
      assert.deepEqual(ended, { code, stdout: '', stderr: 'berth: exec in web: no\n' });
    }
  });

  it('-t needs a terminal where it has a stdin', async () => {
    const { code, stderr } = await berth('/nowhere', ['exec', '-it', 'web', 'sh']);
    assert.equal(code, 1);
    assert.equal(stderr, 'berth: stdin is not a terminal; leave out -t\n');
  });

  it('-it lends the terminal: its size at the start, and each key as it is', async function () {
    let start: ExecStart | undefined;
    await using daemon = await execDaemon(
      (request, call) => {
        start = request;
        call.write({ stdout: Buffer.from('ready\r\n') });
      },
      ({ stdin }, call) => {
        if (!stdin) return;
        call.write({ stdout: Buffer.from(`<${stdin.toString('hex')}>`) });
        end(call, 4);
      },
    );
    // script(1) gives the command a terminal of its own.
    const command = `stty cols 91 rows 17; "${process.execPath}" "${berthFile}" exec -it web sh; echo "code $?"`;
    const shell = spawn('script', ['-qec', command, '/dev/null'], {
      env: { ...process.env, BERTH_HOST: daemon.socket },
    });
    shell.on('error', () => this.skip());
    let seen = '';
    shell.stdout.on('data', chunk => {
      seen += String(chunk);
      if (seen.includes('ready') && !seen.includes('<')) shell.stdin.write('\x03');
    });
    await once(shell, 'close');

    assert.deepEqual(start?.size, { columns: 91, rows: 17 });
    assert.equal(start?.tty, true);
    assert.match(seen, /<03>/);
    assert.match(seen, /code 4/);
  });
});
