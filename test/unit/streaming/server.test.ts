import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { WebSocket } from 'ws';
import { silentLogger } from '../../../src/base/log';
import type { CommandTarget, RemoteProcess } from '../../../src/streaming/backend';
import { StreamingServer } from '../../../src/streaming/server';
import { connectRemote } from '../../support/remote';
import { Refused, SpdyClient, controlFrame } from '../../support/spdy-client';

const DEFAULTS = {
  address: '127.0.0.1',
  port: 0,
  idleTimeoutSeconds: 14400,
  creationTimeoutSeconds: 30,
  tlsCertFile: '',
  tlsKeyFile: '',
};

/** A command that says which it is, and ends. */
function says(text: string, more: Partial<CommandTarget> = {}): CommandTarget {
  return {
    ...{ stdin: false, stdout: true, stderr: false, tty: false },
    open: async sink => {
      await sink('stdout', Buffer.from(text));
      return { stdin: undefined, ended: Promise.resolve(0), resize: () => undefined };
    },
    ...more,
  };
}

/** One that runs until its client has gone. */
function waits(onResize: () => void = () => undefined): CommandTarget & { gone: Promise<void>; opened: number } {
  let leave: () => void = () => undefined;
  const gone = new Promise<void>(resolve => (leave = resolve));
  const open = async (_sink: unknown, signal: AbortSignal): Promise<RemoteProcess> => {
    const ended = new Promise<number>(resolve => {
      signal.addEventListener('abort', () => {
        leave();
        resolve(137);
      });
    });
    target.opened++;
    return Promise.resolve({ stdin: undefined, ended, resize: onResize });
  };
  const target = { stdin: false, stdout: true, stderr: false, tty: true, open, gone, opened: 0 };
  return target;
}

/** One whose output always lies in the same memory; it waits, as a command does, where it is held back. */
function reuses(): { target: CommandTarget & { isHeldBack: Promise<void> }; text: string } {
  const sizes = [1, 125, 126, 65_534, 65_535, 65_536, 70_000, ...Array.from({ length: 60 }, () => 262_144), 17];
  const memory = Buffer.alloc(Math.max(...sizes));
  const letter = (i: number) => String.fromCharCode(0x41 + (i % 26));
  let tell: () => void = () => undefined;
  const isHeldBack = new Promise<void>(resolve => (tell = resolve));
  const target = says('', {
    open: async sink => {
      for (const [i, size] of sizes.entries()) {
        const sent = sink('stdout', memory.fill(letter(i)).subarray(0, size));
        if (sent) setImmediate(tell);
        await sent;
      }
      return { stdin: undefined, ended: Promise.resolve(0), resize: () => undefined };
    },
  });
  return { target: { ...target, isHeldBack }, text: sizes.map((size, i) => letter(i).repeat(size)).join('') };
}

const refusedWith = (status: number) => (error: unknown) => error instanceof Refused && error.status === status;

describe('the streaming server', () => {
  let server: StreamingServer;
  beforeEach(async () => (server = await StreamingServer.start(DEFAULTS, silentLogger)));
  afterEach(async () => server.close());

  const wanted = { stdout: true, stderr: false };

  it('a token is good once: replayed, it is 404', async () => {
    const url = server.command('exec', says('once'));
    const remote = await connectRemote('spdy', url, wanted);
    await remote.status;
    await assert.rejects(SpdyClient.connect(url), refusedWith(404));
    await assert.rejects(connectRemote('websocket', url, wanted), /404/);
  });

  it('a token that was used wrongly is used up', async () => {
    const url = server.command('exec', says('x'));
    assert.equal((await fetch(url)).status, 400);
    await assert.rejects(SpdyClient.connect(url), refusedWith(404));
    const other = server.command('exec', says('x'));
    await assert.rejects(SpdyClient.connect(other, ['v9.channel.k8s.io']), refusedWith(403));
    await assert.rejects(SpdyClient.connect(other), refusedWith(404));
  });

  it('a token is bound to its request: another container, or another kind, cannot be had with it', async () => {
    const one = server.command('exec', says('one'));
    const two = server.command('attach', says('two'));
    const token = one.slice(one.lastIndexOf('/') + 1);
    const base = one.slice(0, one.indexOf('/exec/'));
    for (const path of [
      `/attach/${token}`,
      `/portforward/${token}`,
      `/exec/${token}x`,
      `/exec/${token}/..`,
      `//exec/${token}`,
    ]) {
      await assert.rejects(SpdyClient.connect(base + path), refusedWith(404), path);
    }
    // Nothing in the query counts.
    const remote = await connectRemote('spdy', `${one}?command=sh&container=two&tty=true&stdin=true`, wanted);
    assert.equal((await remote.status, remote.stdout), 'one');
    const second = await connectRemote('spdy', two, wanted);
    assert.equal((await second.status, second.stdout), 'two');
  });

  it('never redirects, and serves nothing else', async () => {
    const base = server.command('exec', says('x')).replace(/\/exec\/.*/, '');
    for (const path of [
      '/',
      '/exec',
      '/exec/',
      '/exec/../exec',
      '//evil.example/exec',
      '/metrics',
      '/attach/AAAAAAAAAAAAAAAAAAAAAA',
    ]) {
      for (const method of ['GET', 'POST']) {
        const response = await fetch(base + path, { method, redirect: 'manual' });
        assert.equal(response.status, 404, path);
        assert.equal(response.headers.get('location'), null);
      }
      assert.equal((await fetch(base + path, { method: 'PUT' })).status, 405);
    }
  });

  it('listens on loopback only, unless it has a certificate', async () => {
    for (const address of ['192.0.2.1', '0.0.0.0', '::', '8.8.8.8']) {
      await assert.rejects(
        StreamingServer.start({ ...DEFAULTS, address }, silentLogger),
        /streaming\.address/,
        address,
      );
    }
    assert.match(server.command('exec', says('x')), /^http:\/\/127\.0\.0\.1:\d+\//);
  });

  it('picks the first protocol of the client that it knows, from one header or several', async () => {
    const protocols: [string[], string][] = [
      [['v5.channel.k8s.io, v4.channel.k8s.io'], 'v5.channel.k8s.io'],
      [['v9.channel.k8s.io', 'v4.channel.k8s.io', 'v5.channel.k8s.io'], 'v4.channel.k8s.io'],
      [['channel.k8s.io'], 'channel.k8s.io'],
    ];
    for (const [asked, chosen] of protocols) {
      const client = await SpdyClient.connect(server.command('exec', says('x')), asked);
      assert.equal(client.protocol, chosen);
      client.close();
    }
    await assert.rejects(SpdyClient.connect(server.command('exec', says('x')), []), refusedWith(400));
    await assert.rejects(
      SpdyClient.connect(server.command('exec', says('x')), ['portforward.k8s.io']),
      (error: Refused) => /^X-Accepted-Stream-Protocol-Versions: v4\.channel\.k8s\.io$/m.test(error.head),
    );
  });

  it('the order at the end: input reset, the outcome, the ends of the outputs; and the client closes first', async () => {
    const url = server.command('exec', says('out', { stdin: true }));
    const client = await SpdyClient.connect(url);
    const [error, stdin, stdout] = [
      await client.open({ streamtype: 'error' }),
      await client.open({ streamtype: 'stdin' }),
      await client.open({ streamtype: 'stdout' }),
    ];
    assert.equal(await stdin.over, 'reset');
    assert.equal(await stdout.over, 'end');
    assert.equal(await error.over, 'end');
    assert.equal(error.text, '{"metadata":{},"status":"Success"}');
    assert.equal(stdout.text, 'out');
    await stdin.write('late');
    await client.ping(41);
    while (client.pings.length === 0) await once(client.socket, 'data');
    assert.deepEqual(client.pings, [41], 'it has not closed');
    client.close();
    await client.closed;
  });

  it('an error of a stream ends that stream only', async () => {
    const client = await SpdyClient.connect(server.command('exec', says('out')));
    assert.equal(await client.begin({ streamtype: 'stdin' }).answered, 'reset', 'not asked for');
    const error = await client.open({ streamtype: 'error' });
    assert.equal(await client.begin({ streamtype: 'error' }).answered, 'reset', 'there already');
    const stdout = await client.open({ streamtype: 'stdout' });
    await error.over;
    assert.equal(stdout.text, 'out');
    client.close();
  });

  for (const transport of ['spdy', 'websocket'] as const) {
    it(`output by ${transport} is what it was when it was handed over, though its memory is used again`, async () => {
      const { target, text } = reuses();
      const remote = await connectRemote(transport, server.command('exec', target), wanted);
      remote.pause();
      await target.isHeldBack;
      remote.resume();
      await remote.closed;
      assert.ok(remote.stdout === text);
    });
  }

  it('old protocols get text, and nothing for a success', async () => {
    for (const protocol of ['v3.channel.k8s.io', 'channel.k8s.io']) {
      const texts: string[] = [];
      for (const exitCode of [0, 3]) {
        const open = () =>
          Promise.resolve({ stdin: undefined, ended: Promise.resolve(exitCode), resize: () => undefined });
        const client = await SpdyClient.connect(server.command('exec', says('', { open })), [protocol]);
        const error = await client.open({ streamtype: 'error' });
        await client.open({ streamtype: 'stdout' });
        await error.over;
        texts.push(error.text);
        client.close();
      }
      assert.deepEqual(texts, ['', 'command terminated with exit code 3']);
    }
  });

  it('a client that opens too few streams is cut off in time', async () => {
    const impatient = await StreamingServer.start({ ...DEFAULTS, creationTimeoutSeconds: 1 }, silentLogger);
    const client = await SpdyClient.connect(impatient.command('exec', says('x')));
    await client.open({ streamtype: 'error' });
    await client.closed;
    await impatient.close();
  });

  it('a session in which nothing moves is closed, and its command told', async () => {
    const sleepy = await StreamingServer.start({ ...DEFAULTS, idleTimeoutSeconds: 1 }, silentLogger);
    const target = waits();
    const remote = await connectRemote('spdy', sleepy.command('exec', target), { tty: true, stderr: false });
    await Promise.all([remote.closed, target.gone]);
    await sleepy.close();
  });

  for (const transport of ['spdy', 'websocket'] as const) {
    it(`its end is told to clients by ${transport}, and is not theirs to the command`, async () => {
      const ending = await StreamingServer.start(DEFAULTS, silentLogger);
      const target = waits();
      const remotes = await Promise.all(
        (['exec', 'attach'] as const).map(kind =>
          connectRemote(transport, ending.command(kind, target), { tty: true, stderr: false }),
        ),
      );
      let isTold = false;
      void target.gone.then(() => (isTold = true));
      // Both commands run: what is before that has no session to end.
      await Promise.all(remotes.map(remote => remote.resize(1, 1)));
      while (target.opened < 2) await new Promise(resolve => setImmediate(resolve));
      await ending.close();
      const [exec, attach] = await Promise.all(remotes.map(remote => remote.status));
      assert.match(exec ?? '', /"status":"Failure".*the command runs on/);
      assert.match(attach ?? '', /"status":"Failure".*attach again/);
      assert.equal(isTold, false);
    });
  }

  it('a bomb of headers ends its session, and no other (CVE-2026-35469)', async () => {
    let sizes = 0;
    const target = waits(() => sizes++);
    const other = await connectRemote('spdy', server.command('exec', target), { tty: true, stderr: false });
    const client = await SpdyClient.connect(server.command('exec', says('x')));
    client.begin({ streamtype: 'error', bomb: 'x'.repeat(4_000_000) });
    await client.closed;
    const flooding = await SpdyClient.connect(server.command('exec', says('x')));
    await flooding.send(controlFrame(1, 0, Buffer.alloc(60_000)));
    await flooding.closed;
    await other.resize(80, 24);
    while (sizes === 0) await new Promise(resolve => setImmediate(resolve));
    other.cut();
    await target.gone;
  });

  it('what is no HTTP, or half of it, ends by itself', async () => {
    const { port } = new URL(server.command('exec', says('x')));
    const socket = connect(Number(port), '127.0.0.1');
    socket.on('error', () => undefined).resume();
    socket.write('\x16\x03\x01 not http\r\n\r\n');
    await once(socket, 'close');
  });

  describe('with certificates', () => {
    let dir: string;
    before(() => (dir = mkdtempSync(join(tmpdir(), 'berth-tls-'))));
    after(() => rmSync(dir, { recursive: true, force: true }));

    function certify(name: string): void {
      const subject = [
        '-subj',
        `/CN=${name}`,
        '-days',
        '2',
        '-nodes',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
      ];
      execFileSync('openssl', ['req', '-x509', ...subject, '-keyout', join(dir, 'key'), '-out', join(dir, 'cert')], {
        stdio: 'ignore',
      });
    }

    async function nameAt(url: string): Promise<string> {
      const socket = connectTls({ host: '127.0.0.1', port: Number(new URL(url).port), rejectUnauthorized: false });
      await once(socket, 'secureConnect');
      const { subject } = socket.getPeerCertificate();
      socket.destroy();
      return String(subject.CN);
    }

    it('says https, and takes new ones while it runs', async () => {
      certify('first');
      const files = { tlsCertFile: join(dir, 'cert'), tlsKeyFile: join(dir, 'key') };
      const secure = await StreamingServer.start({ ...DEFAULTS, ...files }, silentLogger);
      const url = secure.command('exec', says('x'));
      assert.match(url, /^https:\/\/127\.0\.0\.1:/);
      assert.equal(await nameAt(url), 'first');
      certify('second');
      assert.equal(await nameAt(url), 'second');
      rmSync(join(dir, 'key'));
      assert.equal(await nameAt(url), 'second', 'what cannot be read leaves the last');
      await secure.close();
    });

    it('carries output of any size encrypted, though its memory is used again', async () => {
      certify('carrier');
      const files = { tlsCertFile: join(dir, 'cert'), tlsKeyFile: join(dir, 'key') };
      const secure = await StreamingServer.start({ ...DEFAULTS, ...files }, silentLogger);
      const { target, text } = reuses();
      const url = secure.command('exec', target).replace(/^https/, 'wss');
      const webSocket = new WebSocket(url, ['v5.channel.k8s.io'], { rejectUnauthorized: false });
      const received: Buffer[] = [];
      webSocket.on('message', (data: Buffer) => {
        if (data[0] === 1) received.push(data.subarray(1));
      });
      await once(webSocket, 'open');
      webSocket.pause();
      await target.isHeldBack;
      webSocket.resume();
      await once(webSocket, 'close');
      assert.ok(Buffer.concat(received).toString('latin1') === text);
      await secure.close();
    });

    it('one without the other, or what is none, is an error at the start', async () => {
      certify('third');
      const cert = join(dir, 'cert');
      await assert.rejects(StreamingServer.start({ ...DEFAULTS, tlsCertFile: cert }, silentLogger), /go together/);
      await assert.rejects(
        StreamingServer.start({ ...DEFAULTS, tlsCertFile: cert, tlsKeyFile: cert }, silentLogger),
        /cannot be used/,
      );
    });
  });
});
