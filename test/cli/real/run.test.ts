import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { credentials } from '@grpc/grpc-js';
import { BerthClient, CreateRequest } from '../../../src/cri/generated/berth/v1/berth';
import { buildImage } from '../../support/image-builder';
import { RealDaemon } from './harness';

const image = 'localhost/busybox:1';

describe('berth run, with a real daemon', () => {
  let daemon: RealDaemon;

  before(async () => {
    daemon = await RealDaemon.start();
    await daemon.importBusybox(image);
  });
  after(async () => assert.deepEqual(await daemon.stop(), []));

  const run = (...args: string[]) => daemon.berth('run', '--rm', ...args);
  const noContainer = async () => (await daemon.ok('ps', '-aq')) === '';

  it('keeps stdout and stderr apart, and exits as the command does', async () => {
    const ended = await run(image, 'sh', '-c', 'echo out; echo err >&2; exit 7');
    assert.deepEqual(ended, { code: 7, stdout: 'out\n', stderr: 'err\n' });
  });

  it('hands on bytes as they are, without a newline at the end, too', async () => {
    const { stdout } = await run(image, 'printf', 'a\\nb\\n\\nc');
    assert.equal(stdout, 'a\nb\n\nc');
  });

  it('misses no byte of a command that writes much and ends at once', async () => {
    const { code, stdout } = await run(image, 'seq', '200000');
    assert.equal(code, 0);
    assert.equal(stdout, Array.from({ length: 200_000 }, (_, i) => `${i + 1}\n`).join(''));
  });

  it('hands on a line that is longer than a record of the log', async () => {
    const { stdout } = await run(image, 'sh', '-c', 'head -c 100000 /dev/zero | tr "\\0" x; echo; echo end');
    assert.equal(stdout, `${'x'.repeat(100_000)}\nend\n`);
  }).timeout(20_000);

  it('exits with 128 and the signal that ended the command', async () => {
    // Process 1 of a namespace cannot kill itself: its child does what it is told.
    const { code } = await run(image, 'sh', '-c', 'sh -c "kill -9 \\$\\$"; exit $?');
    assert.equal(code, 137);
  });

  it('leaves nothing of a container with --rm', async () => {
    await run('--name', 'gone', image, 'true');
    await daemon.eventually('the container is removed', noContainer);
    await daemon.eventually('its files are removed', () => daemon.leftovers([]).length === 0);
  });

  it('frees the name of a container with --rm as soon as it has exited', async () => {
    for (let i = 0; i < 5; i++) assert.equal((await run('--name', 'again', image, 'true')).code, 0);
  }).timeout(20_000);

  it('exits with 127 when the command is not found, and leaves nothing of --rm', async () => {
    const { code, stdout, stderr } = await run(image, 'no-such-command');
    assert.equal(code, 127);
    assert.equal(stdout, '');
    assert.match(stderr, /^berth: exec: "no-such-command": not found in PATH of the image\n$/);
    await daemon.eventually('the container is removed', noContainer);
  });

  for (const [what, command] of [
    ['a directory', '/etc'],
    ['not executable', '/etc/passwd'],
  ] as const) {
    it(`exits with 126 when the command is ${what}`, async () => {
      const { code, stderr } = await run(image, command);
      assert.equal(code, 126);
      assert.match(stderr, new RegExp(`^berth: exec: "${command}": .*\n$`));
    });
  }

  it('exits with 125 when there is no such image, and leaves nothing', async () => {
    const { code, stderr } = await run('--pull', 'never', 'localhost/none:1', 'true');
    assert.equal(code, 125);
    assert.match(stderr, /^berth: no image is called "localhost\/none:1"; berth images lists those that are here\n$/);
    assert.ok(await noContainer());
  });

  it('exits with 125 when the name is taken', async () => {
    await daemon.ok('run', '-d', '--name', 'taken', image, 'sleep', '100');
    const { code, stderr } = await run('--name', 'taken', image, 'true');
    assert.equal(code, 125);
    assert.match(stderr, /^berth: the name taken is taken by container [0-9a-f]{12}; /);
    await daemon.ok('rm', '-f', 'taken');
  });

  it('gives a name to one of those who want it at the same time', async () => {
    const ended = await Promise.all(
      Array.from({ length: 4 }, () => daemon.berth('run', '-d', '--name', 'one', image, 'sleep', '100')),
    );
    assert.deepEqual(ended.map(({ code }) => code).sort(), [0, 125, 125, 125]);
    await daemon.ok('rm', '-f', 'one');
  }).timeout(20_000);

  it('refuses a name that cannot be one, a network that is not known, and a user that the image lacks', async () => {
    assert.match((await run('--name', 'a/b', image, 'true')).stderr, /^berth: "a\/b" cannot be a container's name/);
    assert.match((await run('--network', 'away', image, 'true')).stderr, /^berth: network "away" is not known/);
    assert.match((await run('-u', 'nobody-here', image, 'true')).stderr, /^berth: user nobody-here: no such user/);
    assert.ok(await noContainer());
  });

  it('sets variables, over those of the image', async () => {
    const { stdout } = await run(
      '-e',
      'A=1',
      '-e',
      'EMPTY=',
      '-e',
      'PATH=/bin',
      image,
      'sh',
      '-c',
      'echo "$A,$EMPTY,$PATH"',
    );
    assert.equal(stdout, '1,,/bin\n');
  });

  it('starts in the directory, as the user, with the host name that are asked for', async () => {
    const { stdout } = await run(
      '-w',
      '/tmp',
      '-u',
      'user',
      '--hostname',
      'ship',
      image,
      'sh',
      '-c',
      'pwd; id -u; id -g; hostname',
    );
    assert.equal(stdout, '/tmp\n1000\n1000\nship\n');
    assert.equal((await run('-u', '12:34', image, 'sh', '-c', 'id -u; id -g')).stdout, '12\n34\n');
  });

  it('is called by the first twelve digits of its id where no host name is given', async () => {
    const id = (await daemon.ok('run', '-d', '--name', 'called', image, 'sleep', '100')).trim();
    assert.equal(await daemon.ok('exec', 'called', 'hostname'), `${id.slice(0, 12)}\n`);
    await daemon.ok('rm', '-f', 'called');
  });

  it('mounts a path of the node, read-only where asked', async () => {
    const dir = daemon.path('volume');
    mkdirSync(dir);
    writeFileSync(`${dir}/in`, 'from the node\n');
    const ended = await run('-v', `${dir}:/data`, image, 'sh', '-c', 'cat /data/in; echo back > /data/out');
    assert.deepEqual(ended, { code: 0, stdout: 'from the node\n', stderr: '' });
    assert.equal(readFileSync(`${dir}/out`, 'utf8'), 'back\n');
    const readonly = await run('-v', `${dir}:/data:ro`, image, 'touch', '/data/no');
    assert.match(readonly.stderr, /Read-only file system/);
  });

  it('refuses to mount what is not there', async () => {
    const { code, stderr } = await run('-v', '/no/such/path:/data', image, 'true');
    assert.equal(code, 125);
    assert.match(stderr, /^berth: mount \/no\/such\/path at \/data: there is no such file or directory on the node\n$/);
  });

  it('runs another entrypoint, or none', async () => {
    assert.equal((await run('--entrypoint', 'echo', image, 'a', 'b')).stdout, 'a b\n');
    assert.equal((await run('--entrypoint', '', image, 'echo', 'c')).stdout, 'c\n');
    assert.match((await run('--entrypoint', '', image)).stderr, /^berth: no command: /);
  });

  it('runs the command of the image, with arguments in its place', async () => {
    const hello = buildImage({
      layers: [
        [
          { path: 'bin/', type: 'dir' },
          { path: 'bin/busybox', data: readFileSync('/bin/busybox'), mode: 0o755 },
        ],
      ],
      config: { Entrypoint: ['/bin/busybox', 'echo'], Cmd: ['from', 'the', 'image'] },
    });
    await daemon.import(hello, 'localhost/hello:1');
    assert.equal((await run('localhost/hello:1')).stdout, 'from the image\n');
    assert.equal((await run('localhost/hello:1', 'from me')).stdout, 'from me\n');
    await daemon.ok('rmi', 'localhost/hello:1');
  });

  it('has the loopback device only, or the network of the node', async () => {
    assert.equal((await run(image, 'ls', '/sys/class/net')).stdout, 'lo\n');
    const host = await run('--network', 'host', image, 'readlink', '/proc/self/ns/net');
    assert.equal((await run('--network', 'host', image, 'readlink', '/proc/self/ns/net')).stdout, host.stdout);
    assert.notEqual((await run(image, 'readlink', '/proc/self/ns/net')).stdout, host.stdout);
  }).timeout(20_000);

  it('hands signals on to the command', async () => {
    const running = daemon.start(
      'run',
      '--rm',
      image,
      'sh',
      '-c',
      'trap "echo got it; exit 4" TERM; echo ready; while :; do sleep 0.1; done',
    );
    await running.printed('ready');
    running.child.kill('SIGTERM');
    assert.deepEqual(await running.ended, { code: 4, stdout: 'ready\ngot it\n', stderr: '' });
  });

  it('undoes a container whose creation is given up', async () => {
    const client = new BerthClient(`unix:${daemon.socket}`, credentials.createInsecure());
    const giveUpAfter = async (ms: number) => {
      const call = client.create(CreateRequest.fromPartial({ image, args: ['true'] }));
      let wasCreated = false;
      call.on('data', () => (wasCreated = true)).on('error', () => undefined);
      setTimeout(() => call.cancel(), ms);
      await new Promise(resolve => call.once('status', resolve));
      return wasCreated;
    };
    let created = 0;
    for (const ms of [0, 5, 10, 20, 30, 40, 60]) created += (await giveUpAfter(ms)) ? 1 : 0;
    client.close();
    await daemon.eventually('what is left is whole, and was handed over', async () => {
      const { stdout } = await daemon.berth('ps', '-aq');
      const left = stdout.split('\n').length - 1;
      // One may have been handed over in the instant in which its caller left.
      const isHandedOver = left === created || left === created + 1;
      return isHandedOver && daemon.leftovers([]).filter(isDirectory).length === left * 3;
    });
    const ids = (await daemon.ok('ps', '-aq')).split('\n').filter(id => id !== '');
    if (ids.length > 0) await daemon.ok('rm', ...ids);
  }).timeout(20_000);
});

function isDirectory(leftover: string): boolean {
  return leftover.startsWith('/');
}
