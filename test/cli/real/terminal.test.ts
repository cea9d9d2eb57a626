import assert from 'node:assert/strict';
import { RealDaemon } from './harness';
import { Person } from './person';

const image = 'localhost/busybox:1';

describe('berth at a terminal, with a real daemon', function () {
  this.timeout(30_000);
  let daemon: RealDaemon;

  before(async () => {
    daemon = await RealDaemon.start();
    await daemon.importBusybox(image);
  });
  after(async () => assert.deepEqual(await daemon.stop(), []));

  it('run -i hands stdin on to its end', async () => {
    const input = 'x'.repeat(3_000_000);
    const { code, stdout, stderr } = await daemon.berthWith(input, 'run', '--rm', '-i', image, 'cat');
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
    assert.equal(stdout.length, input.length);
  });

  it('run -i keeps the outputs apart and has the exit code, also of what does not start', async () => {
    const ended = await daemon.berthWith('', 'run', '--rm', '-i', image, 'sh', '-c', 'echo out; echo err >&2; exit 9');
    assert.deepEqual(ended, { code: 9, stdout: 'out\n', stderr: 'err\n' });
    assert.equal((await daemon.berthWith('', 'run', '--rm', '-i', image, 'no-such')).code, 127);
  });

  it('run -it is a session of its own, of this size', async () => {
    const person = Person.at(daemon.socket, 'run', '--rm', '-it', image, 'sh');
    await person.sees('/ #');
    person.type('tty; stty size\r');
    await person.sees('/dev/pts/0\r\n17 91\r\n');
    person.type('\x03exit 5\r');
    await person.sees('code 5');
    await person.ended;
  });

  it('Ctrl-P Ctrl-Q leaves, and attach comes back to what runs on', async () => {
    const person = Person.at(daemon.socket, 'run', '--name', 'stays', '-it', image, 'sh');
    await person.sees('/ #');
    person.type('value=42; echo s""et\r');
    await person.sees('set\r\n');
    person.type('\x10\x11');
    await person.sees('code 0');
    await person.ended;
    const other = Person.at(daemon.socket, 'attach', 'stays');
    other.type('echo value is $value\r');
    await other.sees('value is 42\r\n');
    other.type('exit 3\r');
    await other.sees('code 3');
    await other.ended;
    await daemon.ok('rm', 'stays');
  });

  it('attach --no-stdin watches, and ends with the container', async () => {
    const script = '{ while :; do echo tick; sleep 0.1; done; } & read line; echo "<$line>"; exit 4';
    await daemon.ok('run', '-d', '-i', '--name', 'watched', image, 'sh', '-c', script);
    const watching = daemon.start('attach', '--no-stdin', 'watched');
    await watching.printed('tick');
    const person = daemon.start('attach', 'watched');
    await person.printed('tick');
    person.child.stdin?.write('hello\n');
    await watching.printed('<hello>');
    assert.equal((await watching.ended).code, 4);
    assert.equal((await person.ended).code, 4);
    await daemon.ok('rm', 'watched');
  });

  it('attach goes on over a restart of the daemon, and has the exit code of what ends meanwhile', async () => {
    const script = 'while read line; do echo "<$line>"; [ "$line" = end ] && exit 9; done; exit 1';
    await daemon.ok('run', '-d', '-i', '--name', 'lasting', image, 'sh', '-c', script);
    const person = daemon.start('attach', 'lasting');
    const watching = daemon.start('attach', '--no-stdin', 'lasting');
    // Who attaches last hears it, too, once it is attached.
    await daemon.eventually('both are attached', async () => {
      person.child.stdin?.write('one\n');
      await person.printed('<one>');
      return String(watching.stdout).includes('<one>');
    });
    await daemon.kill('SIGKILL');
    await daemon.run();
    await daemon.eventually('it is attached again', () => Promise.resolve(/was restarted/.test(String(person.stderr))));
    person.child.stdin?.write('two\n');
    await person.printed('<two>');
    person.child.stdin?.write('end\n');
    assert.equal((await person.ended).code, 9);
    assert.equal((await watching.ended).code, 9);
    await daemon.ok('rm', 'lasting');
  });

  it('attach needs a container that runs', async () => {
    await daemon.ok('run', '-d', '--name', 'over', image, 'true');
    await daemon.eventually('it has exited', async () => /Exited/.test(await daemon.ok('ps', '-a')));
    const { code, stderr } = await daemon.berth('attach', 'over');
    assert.equal(code, 1);
    assert.match(stderr, /over is exited|is exited: there is nothing to attach to/);
    await daemon.ok('rm', 'over');
  });
});
