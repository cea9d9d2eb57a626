import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { snapshot } from '../support/leaks';
import { many, SESSIONS_WITHIN_MS } from '../support/many';
import { refused, useNode } from '../support/node';
import { connectRemote, type Remote, type Transport, type Wanted } from '../support/remote';
import { SpdyClient } from '../support/spdy-client';

const SUCCESS = '{"metadata":{},"status":"Success"}';

describe('Attach', function () {
  this.timeout(60_000);
  const node = useNode();
  const container = async (command: string[], options = {}) =>
    node().start(await node().pod(), { command, ...options });

  async function attach(transport: Transport, id: string, wanted: Wanted = {}): Promise<Remote> {
    const streams = { stdin: false, stdout: true, stderr: !wanted.tty, tty: false, ...wanted };
    const { url } = await node().client.call('Attach', { containerId: id, ...streams });
    return connectRemote(transport, url, wanted);
  }

  /** Resolves once the client has heard `ping`, which `write` makes the container say. */
  async function heard(remote: Remote, write: () => Promise<void> | undefined): Promise<void> {
    const printed = remote.printed('ping\n').then(() => true);
    do await write();
    while (!(await Promise.race([printed, sleep(50, false)])));
  }

  for (const transport of ['spdy', 'websocket'] as const) {
    describe(`by ${transport}`, () => {
      it('hands stdin on and brings both outputs, from now on', async () => {
        const script = 'echo before; while read line; do echo "!$line" >&2; echo "<$line>"; done';
        const id = await container(['sh', '-c', script], { stdin: true });
        await loggedLine(id, 'before');
        const remote = await attach(transport, id, { stdin: true });
        await remote.write('one\ntwo\n');
        await remote.printed('<two>\n');
        assert.equal(remote.stdout, '<one>\n<two>\n');
        assert.equal((await node().status(id)).state, 'CONTAINER_RUNNING');
        await node().client.call('StopContainer', { containerId: id, timeout: 0 });
        assert.equal(await remote.status, SUCCESS);
        assert.equal(remote.stderr, '!one\n!two\n');
      });

      it('several clients see the same, and one may leave', async () => {
        const id = await container(['cat'], { stdin: true });
        const remotes = [
          await attach(transport, id, { stdin: true }),
          await attach(transport, id),
          await attach(transport, id),
        ];
        // Who attaches hears what is written from then on, and is not told when that is.
        for (const remote of remotes) await heard(remote, () => remotes[0]?.write('ping\n'));
        await remotes[0]?.write('all\n');
        for (const remote of remotes) await remote.printed('all\n');
        remotes[1]?.cut();
        await remotes[0]?.write('rest\n');
        await remotes[2]?.printed('rest\n');
        await remotes[0]?.endInput();
        assert.equal((await node().status(id)).state, 'CONTAINER_RUNNING', 'stdin stays open without stdin_once');
        const later = await attach(transport, id, { stdin: true });
        await later.write('later\n');
        await later.printed('later\n');
        await remotes[2]?.printed('later\n');
        assert.equal(remotes[2]?.stdout.replaceAll('ping\n', ''), 'all\nrest\nlater\n');
        [...remotes, later].forEach(remote => remote.cut());
      });

      it('with stdin_once, the end of the first client is the end of stdin', async () => {
        const id = await container(['sh', '-c', 'cat; echo end'], { stdin: true, stdinOnce: true });
        const remote = await attach(transport, id, { stdin: true });
        await remote.write('hello\n');
        await remote.printed('hello\n');
        await remote.endInput();
        assert.equal(await remote.status, SUCCESS);
        assert.equal(remote.stdout, 'hello\nend\n');
        assert.equal((await node().exit(id)).exitCode, 0);
      });

      it('with a terminal: one output, the size, and the log', async () => {
        const id = await container(['sh'], { stdin: true, tty: true });
        const remote = await attach(transport, id, { stdin: true, tty: true });
        await remote.resize(91, 17);
        await remote.write('stty size; tty; ls -l /dev/console; exit 4\r');
        assert.equal(await remote.status, SUCCESS);
        assert.match(remote.stdout, /17 91\r\n\/dev\/pts\/0\r\ncrw--w---- .* 136, +0 .*\/dev\/console\r\n/);
        assert.equal((await node().exit(id)).exitCode, 4);
        const lines = await node().logLines(id);
        assert.ok(lines.some(({ stream, text }) => stream === 'stdout' && text === '17 91\r'));
      });
    });
  }

  /** Waits until the container's log has a line. */
  async function loggedLine(id: string, text: string): Promise<void> {
    const until = Date.now() + 20_000;
    while (!(await node().logLines(id)).some(line => line.text === text)) {
      assert.ok(Date.now() < until, `${text} is not logged`);
      await new Promise(resolve => setTimeout(resolve, 10));
    }
  }

  it('a container that has no stdin takes none, and one without a log can be attached to', async () => {
    const pod = await node().pod({ logDirectory: '' });
    const id = await node().start(pod, { command: ['sh', '-c', 'while :; do echo tick; sleep 0.1; done'] });
    const remote = await attach('spdy', id, { stdin: true });
    await remote.write('nobody reads it');
    await remote.printed('tick\n');
    remote.cut();
  });

  it('brings much output whole to a client that reads', async () => {
    const id = await container(['sh', '-c', 'read go; head -c 30000000 /dev/zero; echo end'], { stdin: true });
    const remote = await attach('spdy', id, { stdin: true });
    await remote.write('go\n');
    assert.equal(await remote.status, SUCCESS);
    assert.equal(remote.stdout.length, 30_000_004);
    assert.ok(remote.stdout.endsWith('\0end\n'));
  });

  it('a client that does not read is dropped, and the container goes on', async () => {
    const id = await container(['sh', '-c', 'read go; head -c 60000000 /dev/zero; echo end; exit 6'], { stdin: true });
    const slow = await attach('spdy', id);
    slow.pause();
    const other = await attach('websocket', id, { stdin: true });
    await other.write('go\n');
    assert.equal(await other.status, SUCCESS);
    assert.equal(other.stdout.length, 60_000_004);
    assert.equal((await node().exit(id)).exitCode, 6);
    slow.resume();
    assert.match(await slow.status, /output was not taken in time/);
    assert.ok(slow.stdout.length < 60_000_000);
  });

  it('goes on over the end of the daemon, for whoever attaches again', async () => {
    const id = await container(['sh'], { stdin: true, tty: true });
    const first = await attach('spdy', id, { stdin: true, tty: true });
    await first.write('echo $((1 + 1))\r');
    await first.printed('\r\n2\r\n');
    await node().restart();
    await first.closed;
    const second = await attach('spdy', id, { stdin: true, tty: true });
    await second.resize(70, 20);
    await second.write('stty size; echo $((3 + 4))\r');
    await second.printed('20 70\r\n7\r\n');
    second.cut();
  });

  it('is refused for a container that does not run', async () => {
    const id = await node().create(await node().pod(), { stdin: true });
    await refused(attach('spdy', id), 'FAILED_PRECONDITION', 'created');
    await refused(attach('spdy', 'absent'), 'NOT_FOUND');
    const url = (
      await node()
        .client.call('Attach', { containerId: await container(['true']), stdout: true })
        .catch(() => undefined)
    )?.url;
    if (url !== undefined) await (await SpdyClient.connect(url)).open({ streamtype: 'error' });
  });

  it('leaves nothing of hundreds of clients that came and went (CVE-2025-64329)', async () => {
    const id = await container(['cat'], { stdin: true });
    (await attach('spdy', id, { stdin: true })).cut();
    const before = snapshot(node().daemon);
    await many(node().daemon, 4, async () => {
      const all = [
        attach('spdy', id, { stdin: true }).then(remote => remote.cut()),
        attach('websocket', id, { stdin: true }).then(remote => remote.cut()),
        attach('spdy', id).then(remote => remote.cut()),
        attach('websocket', id).then(remote => remote.cut()),
      ];
      for (const outcome of await Promise.allSettled(all)) {
        assert.equal(outcome.status, 'fulfilled', String('reason' in outcome && outcome.reason));
      }
    });
    await node().assertNothingLeft(before, 20_000);
    // The monitor has let go of them, too.
    const last = await attach('spdy', id, { stdin: true });
    await last.write('still here\n');
    await last.printed('still here\n');
    last.cut();
  }).timeout(SESSIONS_WITHIN_MS);
});
