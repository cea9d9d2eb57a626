import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { processesIn } from '../support/processes';
import { snapshot } from '../support/leaks';
import { many, SESSIONS_WITHIN_MS } from '../support/many';
import { refused, useNode } from '../support/node';
import { connectRemote, type Remote, type Transport, type Wanted } from '../support/remote';
import { SpdyClient } from '../support/spdy-client';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const SUCCESS = '{"metadata":{},"status":"Success"}';

describe('Exec', function () {
  this.timeout(60_000);
  const node = useNode();
  const container = async (options = {}) => node().start(await node().pod(), options);

  async function urlOf(id: string, cmd: string[], wanted: Wanted = {}): Promise<string> {
    const streams = { stdin: false, stdout: true, stderr: !wanted.tty, tty: false, ...wanted };
    return (await node().client.call('Exec', { containerId: id, cmd, ...streams })).url;
  }

  async function exec(transport: Transport, id: string, cmd: string[], wanted: Wanted = {}): Promise<Remote> {
    return connectRemote(transport, await urlOf(id, cmd, wanted), wanted);
  }

  async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const until = Date.now() + 40_000;
    while (!(await holds())) {
      assert.ok(Date.now() < until, what);
      await new Promise(resolve => setTimeout(resolve, 20));
    }
  }

  const runs = (argument: string) =>
    processesIn(node().daemon.cgroupRoots).some(pid => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(argument);
      } catch {
        return false;
      }
    });

  for (const transport of ['spdy', 'websocket'] as const) {
    describe(`by ${transport}`, () => {
      it('keeps the outputs apart, and tells a success exactly', async () => {
        const remote = await exec(transport, await container(), ['sh', '-c', 'echo out; echo err >&2']);
        assert.equal(await remote.status, SUCCESS);
        assert.equal(remote.stdout, 'out\n');
        assert.equal(remote.stderr, 'err\n');
        assert.equal(remote.protocol, 'v5.channel.k8s.io');
        await remote.closed;
      });

      it('tells an exit code in the form that kubectl reads', async () => {
        const remote = await exec(transport, await container(), ['sh', '-c', 'exit 3']);
        assert.equal(
          await remote.status,
          '{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit code 3",' +
            '"reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}',
        );
      });

      it('tells why a command could not be started', async () => {
        const remote = await exec(transport, await container(), ['nothing-like-it']);
        const why = 'exec: \\"nothing-like-it\\": not found in PATH of the image';
        assert.equal(
          await remote.status,
          `{"metadata":{},"status":"Failure","message":"Internal error occurred: ${why}",` +
            `"reason":"InternalError","details":{"causes":[{"message":"${why}"}]},"code":500}`,
        );
      });

      it('hands stdin on to its end, byte for byte, much of it', async () => {
        const id = await container();
        const remote = await exec(transport, id, ['sha256sum'], { stdin: true });
        const input = randomBytes(8 * 1024 * 1024);
        await remote.write(input);
        await remote.endInput();
        assert.equal(await remote.status, SUCCESS);
        assert.equal(remote.stdout, `${createHash('sha256').update(input).digest('hex')}  -\n`);
      });

      it('brings much output whole, also what a client reads long after the command has ended', async () => {
        const name = `slowly-${transport}`;
        const script = `echo ready; read go; head -c 20000000 /dev/zero; echo end # ${name}`;
        const remote = await exec(transport, await container(), ['sh', '-c', script], { stdin: true });
        await remote.printed('ready');
        assert.ok(runs(name));
        await remote.write('go\n');
        await eventually('the command ends', async () => {
          remote.resume();
          await sleep(1);
          remote.pause();
          return !runs(name);
        });
        await sleep(4000); // longer than anything waits for what is left of the output
        remote.resume();
        assert.equal(await remote.status, SUCCESS);
        assert.equal(remote.stdout.length, 'ready\n'.length + 20_000_000 + 'end\n'.length);
        assert.ok(remote.stdout.endsWith('\0end\n'));
      });

      it('a command that does not read its stdin does not stop its output', async () => {
        const remote = await exec(transport, await container(), ['sh', '-c', 'echo here; sleep 0.5; echo there'], {
          stdin: true,
        });
        void remote.write(Buffer.alloc(4 * 1024 * 1024));
        assert.equal(await remote.status, SUCCESS);
        assert.equal(remote.stdout, 'here\nthere\n');
      });

      it('kills the command of a client that goes away', async () => {
        const id = await container();
        const argument = String(1_000_000 + (process.pid % 1000) + (transport === 'spdy' ? 0 : 1000));
        const remote = await exec(transport, id, ['sh', '-c', `echo ready; exec sleep ${argument}`]);
        await remote.printed('ready');
        assert.ok(runs(argument));
        remote.cut();
        await eventually('the command is gone', () => !runs(argument));
      });

      describe('with a terminal', () => {
        it('is a session with a controlling terminal of its own, owned by its user', async () => {
          const id = await container({ security: { runAsUser: { value: 1000 } } });
          const script =
            'tty; test -t 0 -a -t 1 -a -t 2 && echo terminals; echo works > /dev/tty; stat -c %u $(tty); echo $TERM';
          const remote = await exec(transport, id, ['sh', '-c', script], { tty: true });
          assert.equal(await remote.status, SUCCESS);
          assert.equal(remote.stdout, '/dev/pts/0\r\nterminals\r\nworks\r\n1000\r\nxterm\r\n');
        });

        it('follows the size, and the command is told', async () => {
          const id = await container();
          const script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
          const remote = await exec(transport, id, ['sh', '-c', script], { tty: true, stdin: true });
          await remote.printed('ready');
          await remote.resize(101, 37);
          await remote.printed('37 101\r\n');
          await remote.resize(80, 24);
          await remote.printed('24 80\r\n');
          await remote.write('\x03'); // Ctrl-C, by the terminal's own line discipline
          assert.match(await remote.status, /"message":"130"/);
        });

        it('echoes and hands on what is typed', async () => {
          const remote = await exec(transport, await container(), ['sh'], { tty: true, stdin: true });
          await remote.write('echo $((40 + 2))\r');
          await remote.printed('\r\n42\r\n');
          await remote.write('exit 5\r');
          assert.match(await remote.status, /"message":"5"/);
        });

        it('loses nothing of what was written last', async () => {
          const id = await container();
          for (let i = 0; i < 10; i++) {
            const remote = await exec(transport, id, ['sh', '-c', 'seq 1 2000'], { tty: true });
            assert.equal(await remote.status, SUCCESS);
            assert.ok(remote.stdout.endsWith('\r\n1999\r\n2000\r\n'), remote.stdout.slice(-40));
            assert.equal(remote.stdout.split('\n').length, 2001);
          }
        });

        it('a command that let go of its terminal for a while has it back', async () => {
          const script = 'exec 3>&1 0<&- 1>&- 2>&- 3>&-; sleep 0.3; echo back > /dev/tty';
          const remote = await exec(transport, await container(), ['sh', '-c', script], { tty: true });
          assert.equal(await remote.status, SUCCESS);
          assert.equal(remote.stdout, 'back\r\n');
        });
      });
    });
  }

  for (const protocol of ['v5.base64.channel.k8s.io', 'v4.base64.channel.k8s.io', 'base64.channel.k8s.io'])
    it(`carries what browsers can read: text, in ${protocol}`, async () => {
      const url = await urlOf(await container(), ['sh', '-c', 'read line; printf "<$line>\\377"; exit 3'], {
        stdin: true,
      });
      const webSocket = new WebSocket(url.replace(/^http/, 'ws'), [protocol]);
      const got = ['', '', '', ''].map(() => Buffer.alloc(0));
      webSocket.on('message', (message: Buffer) => {
        const channel = Number(message.toString('latin1', 0, 1));
        got[channel] = Buffer.concat([
          got[channel] ?? Buffer.alloc(0),
          Buffer.from(message.toString('latin1', 1), 'base64'),
        ]);
      });
      await once(webSocket, 'open');
      assert.equal(webSocket.protocol, protocol);
      webSocket.send(`0${Buffer.from('text\n').toString('base64')}`);
      await once(webSocket, 'close');
      assert.equal(got[1]?.toString('latin1'), '<text>\xff');
      assert.match(got[3]?.toString() ?? '', protocol.startsWith('v') ? /"reason":"NonZeroExitCode"/ : /exit code 3/);
    });

  it('is refused for what makes no sense', async () => {
    const id = await container();
    await refused(urlOf(id, ['true'], { tty: true, stderr: true }), 'INVALID_ARGUMENT', 'tty and stderr');
    await refused(urlOf(id, ['true'], { stdout: false, stderr: false }), 'INVALID_ARGUMENT', 'none of');
    await refused(urlOf(id, []), 'INVALID_ARGUMENT', 'command');
    await refused(urlOf('absent', ['true']), 'NOT_FOUND');
    await refused(urlOf(await node().create(await node().pod()), ['true']), 'FAILED_PRECONDITION', 'created');
  });

  it('answers with a whole URL on loopback', async () => {
    assert.match(await urlOf(await container(), ['true']), /^http:\/\/127\.0\.0\.1:\d+\/exec\/[\w-]{22}$/);
  });

  it('a terminal is not taken from what the container put in place of its multiplexer (CVE-2025-52565)', async () => {
    const id = await container({ security: { privileged: true } });
    await node().exec(id, ['mount', '--bind', '/dev/null', '/dev/pts/ptmx']);
    const remote = await exec('spdy', id, ['tty'], { tty: true });
    assert.match(await remote.status, /make a terminal.*no such device.*not devpts/);
  });

  it('a terminal in a user namespace belongs to the user there', async () => {
    const mappings = [{ containerId: 0, hostId: 300_000, length: 65_536 }];
    const namespaceOptions = { usernsOptions: { mode: 'POD', uids: mappings, gids: mappings } };
    const pod = await node().pod({ linux: { securityContext: { namespaceOptions } } });
    const security = { namespaceOptions, runAsUser: { value: 1000 } };
    const id = await node().start(pod, { security, tty: true });
    const remote = await exec('spdy', id, ['sh', '-c', 'tty; echo works > /dev/tty; stat -c %u $(tty)'], { tty: true });
    assert.equal(await remote.status, SUCCESS);
    assert.equal(remote.stdout, '/dev/pts/1\r\nworks\r\n1000\r\n');
  });

  it('survives the end of the daemon', async () => {
    const id = await container();
    const argument = String(1_003_000 + (process.pid % 1000));
    const script = `echo ready; sleep ${argument} & while :; do echo more; sleep 0.1; done`;
    for (const end of ['stop', 'kill'] as const) {
      const remote = await exec('spdy', id, ['sh', '-c', script]);
      await remote.printed('ready');
      await node().daemon[end]();
      await remote.closed;
      // Without a word it would look like a success.
      if (end === 'stop') assert.match(await remote.status, /the command runs on/);
      assert.ok(runs(argument), `${end}: the command is gone`);
      await node().daemon.run();
    }
    await node().restart();
    assert.ok(runs(argument));
  });

  it('is told of when it has outlived its daemon, and what is lost of its output', async () => {
    const id = await container();
    const pid = await node().pidOf(id);
    const told = async (since: number) => {
      const pattern = /commands of an earlier daemon's have ended: (\d+) bytes/;
      for (;;) {
        const bytes = pattern.exec(node().daemon.log.slice(since))?.[1];
        if (bytes !== undefined) return Number(bytes);
        await sleep(10);
      }
    };
    for (const isThere of [true, false]) {
      const end = `/end-${isThere}`;
      const script = `echo ready; while [ ! -e ${end} ]; do sleep 0.01; done; yes | head -c 300000; touch ${end}ed`;
      const remote = await exec('spdy', id, ['sh', '-c', script]);
      await remote.printed('ready');
      await node().daemon.kill();
      await remote.closed;
      const since = node().daemon.log.length;
      if (isThere) await node().restart();
      writeFileSync(`/proc/${pid}/root${end}`, '');
      while (!existsSync(`/proc/${pid}/root${end}ed`)) await sleep(5);
      if (!isThere) await node().restart();
      assert.equal(await told(since), 300_000);
    }
    // Told once.
    const since = node().daemon.log.length;
    await node().restart();
    await node().exec(id, ['true']);
    assert.doesNotMatch(node().daemon.log.slice(since), /earlier daemon/);
  });

  it('leaves nothing of hundreds of failed, aborted and resized execs (CVE-2022-23471, CVE-2025-64329)', async () => {
    const id = await node().start(await node().pod(), { command: ['sleep', '100000'] });
    await (
      await exec('spdy', id, ['true'])
    ).status;
    const before = snapshot(node().daemon);
    await many(node().daemon, 9, async () => {
      const all = [
        // Its end may come before the size is sent.
        exec('spdy', id, ['nothing-like-it'], { tty: true, stdin: true }).then(async remote => {
          await remote.resize(80, 24).catch(() => undefined);
          await remote.status;
        }),
        exec('websocket', id, ['nothing-like-it'], { tty: true, stdin: true }).then(async remote => {
          await remote.resize(80, 24).catch(() => undefined);
          await remote.status;
        }),
        exec('spdy', id, ['cat'], { stdin: true }).then(remote => remote.cut()),
        exec('websocket', id, ['cat'], { stdin: true }).then(remote => remote.cut()),
        exec('spdy', id, ['sleep', '1000'], { tty: true }).then(remote => remote.cut()),
        exec('spdy', id, ['true']).then(remote => remote.status),
        exec('websocket', id, ['true']).then(remote => remote.status),
        SpdyClient.connect(await urlOf(id, ['sleep', '1000'])).then(client => client.close()),
        urlOf(id, ['true']).then(url => fetch(url)),
      ];
      for (const outcome of await Promise.allSettled(all)) {
        assert.equal(outcome.status, 'fulfilled', String('reason' in outcome && outcome.reason));
      }
    });
    await node().assertNothingLeft(before, 20_000);
  }).timeout(SESSIONS_WITHIN_MS);
});
