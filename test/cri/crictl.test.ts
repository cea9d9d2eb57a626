import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { useNode } from '../support/node';

/** The kubelet's command line client is no Debian package of ours: where it is installed, it is one more judge. */
const program = process.env['CRICTL'] ?? 'crictl';
const isThere = spawnSync(program, ['--version']).status === 0;

(isThere ? describe : describe.skip)('crictl', function () {
  this.timeout(60_000);
  const node = useNode();
  const container = async (options = {}) => node().start(await node().pod(), options);

  function start(args: string[]) {
    const endpoint = `unix://${node().daemon.socket}`;
    const child = spawn(program, ['--config', '/dev/null', '-r', endpoint, '-i', endpoint, '-t', '30s', ...args]);
    const seen = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) child[name].on('data', chunk => (seen[name] += String(chunk)));
    const ended = once(child, 'close').then(([code]) => ({ code: code as number, ...seen }));
    const printed = async (text: string) => {
      while (!seen.stdout.includes(text)) await Promise.race([once(child.stdout, 'data'), ended]);
    };
    return { child, ended, printed, seen };
  }

  async function crictl(args: string[], input = ''): Promise<{ code: number; stdout: string; stderr: string }> {
    const { child, ended } = start(args);
    child.stdin.end(input);
    return ended;
  }

  for (const transport of ['spdy', 'websocket']) {
    describe(`by ${transport}`, () => {
      it('exec: both outputs and the exit code', async () => {
        const id = await container();
        const { stdout, stderr } = await crictl([
          'exec',
          '-r',
          transport,
          id,
          'sh',
          '-c',
          'echo out; echo err >&2; exit 7',
        ]);
        assert.equal(stdout, 'out\n');
        assert.match(stderr, /^err\n/);
        assert.match(stderr, /exit code 7/);
      });

      it('exec -i: stdin to its end, and much output', async () => {
        const id = await container();
        const { code, stdout } = await crictl(['exec', '-i', '-r', transport, id, 'cat'], 'x'.repeat(3_000_000));
        assert.equal(code, 0);
        assert.equal(stdout.length, 3_000_000);
      });

      it('exec -it: a terminal of the size of this one', async () => {
        const id = await container();
        const endpoint = `unix://${node().daemon.socket}`;
        const line = `${program} --config /dev/null -r ${endpoint} -i ${endpoint} exec -it -r ${transport} ${id} sh`;
        const shell = spawn('script', ['-qec', `stty cols 91 rows 17; ${line}; echo "code $?"`, '/dev/null']);
        let seen = '';
        const sees = async (wanted: string) => {
          while (!seen.includes(wanted)) seen += String((await once(shell.stdout, 'data'))[0]);
        };
        await sees('/ #');
        shell.stdin.write('tty; stty size\r');
        await sees('/dev/pts/0\r\n17 91\r\n');
        shell.stdin.write('exit\r');
        await sees('code 0');
      });

      it('attach -i', async () => {
        const id = await container({ command: ['cat'], stdin: true, stdinOnce: true });
        const { child, ended, printed } = start(['attach', '-i', '-r', transport, id]);
        child.stdin.write('hello\n');
        await printed('hello\n');
        await node().client.call('StopContainer', { containerId: id, timeout: 0 });
        assert.equal((await ended).stdout, 'hello\n');
      });

      it('port-forward', async () => {
        const host = createServer(socket => socket.end('from the server'));
        host.listen(0, '127.0.0.1');
        await once(host, 'listening');
        const { port } = host.address() as { port: number };
        const pod = await node().pod({ linux: { securityContext: { namespaceOptions: { network: 'NODE' } } } });
        const { child, ended, printed, seen } = start(['port-forward', '-r', transport, pod, `0:${port}`]);
        await printed('Forwarding from 127.0.0.1:');
        const local = Number(/127\.0\.0\.1:(\d+) ->/.exec(seen.stdout)?.[1]);
        assert.equal(await text(connect(local, '127.0.0.1')), 'from the server');
        child.kill('SIGINT');
        await ended;
        host.close();
      });
    });
  }
});
