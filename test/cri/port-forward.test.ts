import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createWebSocketStream, WebSocket } from 'ws';
import { snapshot } from '../support/leaks';
import { many, SESSIONS_WITHIN_MS } from '../support/many';
import { refused, useNode } from '../support/node';
import { SpdyClient, type ClientStream } from '../support/spdy-client';

const SHA256 = `const hash = require('node:crypto').createHash('sha256');
  socket.on('data', data => hash.update(data)).on('end', () => socket.end(hash.digest('hex')));`;

const PROTOCOL = 'portforward.k8s.io';

describe('PortForward', function () {
  this.timeout(30_000);
  const node = useNode();

  const servers: ChildProcess[] = [];
  afterEach(() => servers.splice(0).forEach(server => server.kill('SIGKILL')));

  /** A pod with a server on port 8000 of its localhost; for each connection, `socket`, it runs `script`. */
  async function server(script: string, address = '127.0.0.1'): Promise<string> {
    const pod = await node().pod();
    const pid = await node().pidOf(await node().start(pod));
    const program = `require('node:net').createServer({ allowHalfOpen: true }, socket => {
      socket.on('error', () => undefined);
      ${script}
    }).listen(8000, '${address}', () => console.log('listening'))`;
    const child = spawn('nsenter', [`--net=/proc/${pid}/ns/net`, process.execPath, '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    servers.push(child);
    await once(child.stdout, 'data');
    return pod;
  }

  async function urlOf(pod: string, ports: number[] = []): Promise<string> {
    return (await node().client.call('PortForward', { podSandboxId: pod, port: ports })).url;
  }

  async function pair(client: SpdyClient, port: number, id: string) {
    const error = await client.open({ streamtype: 'error', port: String(port), requestid: id });
    await error.end();
    const data = await client.open({ streamtype: 'data', port: String(port), requestid: id });
    return { error, data };
  }

  const outcome = async ({ error, data }: { error: ClientStream; data: ClientStream }) => {
    await Promise.all([error.over, data.over]);
    return { data: data.text, error: error.text };
  };

  async function clients(pod: string): Promise<[string, SpdyClient][]> {
    return [
      ['SPDY', await SpdyClient.connect(await urlOf(pod), [PROTOCOL])],
      ['SPDY in WebSocket', await tunnel(await urlOf(pod))],
    ];
  }

  async function tunnel(url: string): Promise<SpdyClient> {
    const webSocket = new WebSocket(url.replace(/^http/, 'ws'), {
      headers: { 'Sec-WebSocket-Protocol': 'SPDY/3.1+portforward.k8s.io' },
    });
    let answered: string | undefined;
    webSocket.once('upgrade', ({ headers }) => {
      answered = headers['sec-websocket-protocol'];
      delete headers['sec-websocket-protocol']; // ws would not have it
    });
    await once(webSocket, 'open');
    assert.equal(answered, 'SPDY/3.1+portforward.k8s.io');
    return SpdyClient.over(createWebSocketStream(webSocket));
  }

  it('carries connections both ways, many over one session', async () => {
    const pod = await server(SHA256);
    for (const [, client] of await clients(pod)) {
      const inputs = Array.from({ length: 5 }, () => randomBytes(300_000));
      const pairs = await Promise.all(inputs.map((_, i) => pair(client, 8000, String(i))));
      await Promise.all(pairs.map(({ data }, i) => data.write(inputs[i] ?? '', true)));
      for (const [i, one] of pairs.entries()) {
        const digest = createHash('sha256')
          .update(inputs[i] ?? '')
          .digest('hex');
        assert.deepEqual(await outcome(one), { data: digest, error: '' });
      }
      client.close();
    }
  });

  it('brings what the pod sends, whole, though the client has said all', async () => {
    const pod = await server('socket.end(Buffer.alloc(8_000_000))');
    for (const [name, client] of await clients(pod)) {
      const one = await pair(client, 8000, '0');
      await one.data.end();
      assert.equal((await outcome(one)).data.length, 8_000_000, name);
      client.close();
    }
  });

  it('reaches a server that listens on ::1 only', async () => {
    const pod = await server("socket.end('six')", '::1');
    const client = await SpdyClient.connect(await urlOf(pod), [PROTOCOL]);
    assert.equal((await outcome(await pair(client, 8000, '0'))).data, 'six');
    client.close();
  });

  it("is in the pod's network, and not the host's", async () => {
    const host = createServer(socket => socket.end('the host'));
    host.listen(0, '127.0.0.1');
    await once(host, 'listening');
    const { port } = host.address() as { port: number };
    const client = await SpdyClient.connect(await urlOf(await node().pod()), [PROTOCOL]);
    assert.equal((await outcome(await pair(client, port, '0'))).data, '');
    client.close();
    const onHost = await node().pod({ linux: { securityContext: { namespaceOptions: { network: 'NODE' } } } });
    const other = await SpdyClient.connect(await urlOf(onHost), [PROTOCOL]);
    assert.equal((await outcome(await pair(other, port, '0'))).data, 'the host');
    other.close();
    host.close();
  });

  it('tells on the error stream why a connection failed, and the session goes on', async () => {
    const pod = await server("socket.end('hello')");
    const client = await SpdyClient.connect(await urlOf(pod), [PROTOCOL]);
    assert.match(
      (await outcome(await pair(client, 9, '0'))).error,
      /^forward port 9: connect to port 9 of localhost: connection refused/,
    );
    const junk = client.begin({ streamtype: 'data', port: 'http', requestid: '1' });
    assert.equal(await junk.answered, 'reset');
    assert.equal(await client.begin({ streamtype: 'other', port: '80', requestid: '1' }).answered, 'reset');
    assert.equal(await client.begin({ streamtype: 'data', port: '65536', requestid: '1' }).answered, 'reset');
    assert.equal((await outcome(await pair(client, 8000, '2'))).data, 'hello');
    client.close();
  });

  it('pairs streams without a request id by their own', async () => {
    const client = await SpdyClient.connect(await urlOf(await server("socket.end('old')")), [PROTOCOL]);
    const error = await client.open({ streamtype: 'error', port: '8000' });
    const data = await client.open({ streamtype: 'data', port: '8000' });
    assert.equal((await outcome({ error, data })).data, 'old');
    client.close();
  });

  it('a port that the request does not name is refused', async () => {
    const pod = await server("socket.end('hello')");
    const client = await SpdyClient.connect(await urlOf(pod, [8000]), [PROTOCOL]);
    assert.equal(await client.begin({ streamtype: 'data', port: '22', requestid: '1' }).answered, 'reset');
    assert.equal((await outcome(await pair(client, 8000, '2'))).data, 'hello');
    client.close();
  });

  for (const protocol of ['v4.channel.k8s.io', 'v4.base64.channel.k8s.io'])
    it(`older clients have two channels a port, in ${protocol}`, async () => {
      const isBase64 = protocol.includes('base64');
      const read = (message: Buffer): [channel: number, bytes: Buffer] =>
        isBase64
          ? [Number(message.toString('latin1', 0, 1)), Buffer.from(message.toString('latin1', 1), 'base64')]
          : [message[0] ?? 0, message.subarray(1)];
      const pod = await server("socket.on('data', data => socket.write(`<${data}>`))");
      const webSocket = new WebSocket((await urlOf(pod, [8000, 9])).replace(/^http/, 'ws'), [protocol]);
      const got: Record<number, Buffer[]> = {};
      const done = new Promise<void>(resolve => {
        webSocket.on('message', (message: Buffer) => {
          const [channel, bytes] = read(message);
          (got[channel] ??= []).push(bytes);
          if ((got[0]?.length ?? 0) > 1 && (got[3]?.length ?? 0) > 1) resolve();
        });
      });
      await once(webSocket, 'open');
      assert.equal(webSocket.protocol, protocol);
      webSocket.send(isBase64 ? `0${Buffer.from('hello').toString('base64')}` : Buffer.from('\0hello'));
      await done;
      const [port, ...rest] = got[0] ?? [];
      assert.equal(port?.readUInt16LE(), 8000);
      assert.equal(Buffer.concat(rest).toString(), '<hello>');
      assert.equal(got[1]?.[0]?.readUInt16LE(), 8000);
      assert.equal(got[3]?.[0]?.readUInt16LE(), 9);
      assert.match(got[3]?.[1]?.toString() ?? '', /connection refused/);
      webSocket.close();
    });

  it('is refused for a pod that is not ready', async () => {
    const pod = await node().pod();
    await node().client.call('StopPodSandbox', { podSandboxId: pod });
    await refused(urlOf(pod), 'FAILED_PRECONDITION');
    await refused(urlOf('absent'), 'NOT_FOUND');
  });

  it('leaves nothing of hundreds of failed and aborted connections', async () => {
    const pod = await server('socket.pipe(socket)');
    const warm = await SpdyClient.connect(await urlOf(pod), [PROTOCOL]);
    await (await pair(warm, 8000, '0')).data.end();
    warm.close();
    await warm.closed;
    const before = snapshot(node().daemon);
    await many(node().daemon, 2 * 10, async () => {
      for (const [, client] of await clients(pod)) {
        const pairs = await Promise.all(
          Array.from({ length: 10 }, (_, i) => pair(client, i % 2 ? 8000 : 9, String(i))),
        );
        await pairs[1]?.data.write('x');
        await pairs[3]?.data.reset();
        client.begin({ streamtype: 'error', port: '8000', requestid: 'alone' });
        client.socket.destroy();
      }
    });
    await node().assertNothingLeft(before, 20_000);
  }).timeout(SESSIONS_WITHIN_MS);
});
