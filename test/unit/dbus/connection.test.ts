import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Connection, ConnectionLost } from '../../../src/dbus/connection';

const HELLO = { path: '/org/freedesktop/DBus', interface: 'org.freedesktop.DBus', member: 'Hello' };
const OK = 'OK 0123456789abcdef\r\n';

/** Longer than any machine needs for what happens here at once. */
const LONG_MS = 60_000;

describe('a D-Bus connection', function () {
  this.timeout(2 * LONG_MS);
  let dir: string;
  let server: Server | undefined;

  beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'berth-dbus-'))));
  afterEach(async () => {
    const closed = server && once(server, 'close');
    server?.close();
    await closed;
    server = undefined;
    rmSync(dir, { recursive: true });
  });

  /** A socket where each who connects is served so, once the first bytes are there. */
  async function listen(serve: (socket: Socket) => void): Promise<string> {
    const path = join(dir, 'bus');
    server = createServer(socket => socket.on('error', () => undefined).once('data', () => serve(socket)));
    await once(server.listen(path), 'listening');
    return path;
  }

  const open = (path: string) => Connection.open(path, () => undefined, LONG_MS);

  it('that is closed with the last word of the handshake is lost, and the process goes on', async () => {
    const path = await listen(socket => socket.write(OK, () => socket.destroy()));
    const calls = Array.from({ length: 20 }, async () => (await open(path)).call(HELLO, LONG_MS));
    await Promise.all(calls.map(call => assert.rejects(call, ConnectionLost)));
  });

  it('is lost by what is no message: who waits for a reply is told so', async () => {
    const path = await listen(socket => {
      socket.write(OK);
      socket.on('data', chunk => chunk.includes('Hello') && socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    });
    const connection = await open(path);
    await assert.rejects(connection.call(HELLO, LONG_MS), /bus is gone: this is no D-Bus message/);
    assert.equal(connection.isOpen, false);
  });

  it('has a deadline also for calls that wait for others to be answered', async () => {
    const path = await listen(socket => void socket.resume().write(OK));
    const connection = await open(path);
    const others = Array.from({ length: 100 }, () => assert.rejects(connection.call(HELLO, LONG_MS), ConnectionLost));
    await assert.rejects(connection.call(HELLO, 50), /Hello over D-Bus was not answered within 0.05 s/);
    const last = assert.rejects(connection.call(HELLO, LONG_MS), ConnectionLost);
    connection.close();
    await Promise.all([...others, last]);
  });

  it('is not made where nobody is, or this user is refused', async () => {
    await assert.rejects(open(join(dir, 'none')), /connect to D-Bus at .*none: .*ENOENT/);
    const path = await listen(socket => socket.end('REJECTED EXTERNAL\r\n'));
    await assert.rejects(open(path), /bus: it refuses user \d+: REJECTED EXTERNAL/);
  });
});
