import assert from 'node:assert/strict';
import { processesNaming, RealDaemon } from './harness';

const image = 'localhost/busybox:1';
/** So long sleeps nobody else on this machine. */
const odd = 1_000_000 + process.pid;

describe('berth exec, with a real daemon', () => {
  let daemon: RealDaemon;

  before(async () => {
    daemon = await RealDaemon.start();
    await daemon.importBusybox(image);
    await daemon.ok('run', '-d', '--name', 'box', '-e', 'A=container', image, 'sleep', '1000');
  });
  after(async () => assert.deepEqual(await daemon.stop(), []));

  it('keeps stdout and stderr apart, and exits as the command does', async () => {
    const ended = await daemon.berth('exec', 'box', 'sh', '-c', 'echo out; echo err >&2; exit 7');
    assert.deepEqual(ended, { code: 7, stdout: 'out\n', stderr: 'err\n' });
  });

  it('has no stdin unless asked, and then to its end', async () => {
    assert.equal((await daemon.berthWith('hello', 'exec', 'box', 'cat')).stdout, '');
    assert.equal((await daemon.berthWith('hello', 'exec', '-i', 'box', 'cat')).stdout, 'hello');
  });

  it('hands much through both ways', async () => {
    const input = 'x'.repeat(5_000_000);
    const { code, stdout } = await daemon.berthWith(input, 'exec', '-i', 'box', 'cat');
    assert.equal(code, 0);
    assert.equal(stdout.length, input.length);
  }).timeout(20_000);

  it('ends although the command has not read its stdin', async () => {
    const { code } = await daemon.berthWith('x'.repeat(5_000_000), 'exec', '-i', 'box', 'true');
    assert.equal(code, 0);
  });

  it('sets variables, the directory and the user', async () => {
    const { stdout } = await daemon.berth(
      'exec',
      '-e',
      'B=exec',
      '-w',
      '/tmp',
      '-u',
      'user',
      'box',
      'sh',
      '-c',
      'echo $A $B; pwd; id -u; id -G',
    );
    assert.equal(stdout, 'container exec\n/tmp\n1000\n1000 2000\n');
  });

  it('exits with 127 and 126 when the command does not start', async () => {
    const missing = await daemon.berth('exec', 'box', 'no-such-command');
    assert.equal(missing.code, 127);
    assert.match(missing.stderr, /^berth: exec: "no-such-command": not found/);
    assert.equal((await daemon.berth('exec', 'box', '/etc/passwd')).code, 126);
  });

  it('gives the command a terminal', async () => {
    const { code, stdout } = await daemon.berth('exec', '-t', 'box', 'sh', '-c', 'tty; echo $TERM; exit 3');
    assert.equal(stdout, '/dev/pts/0\r\nxterm\r\n');
    assert.equal(code, 3);
  });

  it('hands signals on', async () => {
    const running = daemon.start(
      'exec',
      'box',
      'sh',
      '-c',
      'trap "exit 6" INT; echo ready; while :; do sleep 0.05; done',
    );
    await running.printed('ready');
    running.child.kill('SIGINT');
    assert.equal((await running.ended).code, 6);
  });

  it('kills the command when the caller goes away', async () => {
    const running = daemon.start('exec', 'box', 'sh', '-c', `echo ready; sleep ${odd}`);
    await running.printed('ready');
    running.child.kill('SIGKILL');
    await running.ended;
    await daemon.eventually('the command is gone', () => processesNaming([`sleep ${odd}`]).length === 0);
  });

  it('needs a container that runs', async () => {
    await daemon.ok('run', '-d', '--name', 'short', image, 'true');
    await daemon.eventually('it has exited', async () => /Exited/.test(await daemon.ok('ps', '-a')));
    const { stderr } = await daemon.berth('exec', 'short', 'true');
    assert.match(stderr, /is exited: a command runs only in a running container/);
    await daemon.ok('rm', 'short');
  });
});
