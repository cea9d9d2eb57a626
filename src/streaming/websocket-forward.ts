import type { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { messageOf } from '../base/errors';
import type { ForwardTarget } from './backend';
import { drained } from './drained';
import { writeInput } from './input';
import { TUNNEL_SUBPROTOCOL } from './upgrade';

/** The tunnel first: then come those that older clients speak, whose ports stand in the request. */
export const FORWARD_SUBPROTOCOLS = [TUNNEL_SUBPROTOCOL, 'v4.channel.k8s.io', 'v4.base64.channel.k8s.io'] as const;

/**
 * Port-forward in WebSocket messages: for the n-th port of the request, channel 2n is the data and 2n + 1 the errors.
 * The first message on each, from here, is the port in two bytes, little endian. One connection a port.
 */
export async function serveWebSocketForward(
  socket: Socket,
  webSocket: WebSocket,
  protocol: string,
  target: ForwardTarget,
): Promise<void> {
  const channels = new Channels(socket, webSocket, protocol.includes('base64.'));
  const connections = target.ports.map((port, i) => forward(target, channels, port, i * 2));
  webSocket.on('message', (data: Buffer) => {
    const { channel, bytes } = channels.parse(data);
    if (channel % 2 === 0) connections[channel / 2]?.take(bytes);
  });
  await new Promise<void>(resolve => webSocket.once('close', () => resolve()));
  for (const connection of connections) connection.close();
}

class Channels {
  constructor(
    private readonly socket: Socket,
    readonly webSocket: WebSocket,
    private readonly isBase64: boolean,
  ) {}

  send(channel: number, bytes: Buffer): void | Promise<void> {
    if (this.webSocket.readyState !== this.webSocket.OPEN) return;
    if (this.isBase64) this.webSocket.send(`${String.fromCharCode(0x30 + channel)}${bytes.toString('base64')}`);
    else this.webSocket.send(Buffer.concat([Buffer.from([channel]), bytes]));
    if (this.socket.writableNeedDrain) return drained(this.socket);
  }

  parse(message: Buffer): { channel: number; bytes: Buffer } {
    const first = message[0] ?? CHANNELS;
    if (!this.isBase64) return { channel: first, bytes: message.subarray(1) };
    return { channel: first - 0x30, bytes: Buffer.from(message.toString('latin1', 1), 'base64') };
  }
}

/** A byte's worth: no message is for a channel of this number. */
const CHANNELS = 256;

interface Forwarded {
  take(bytes: Buffer): void;
  close(): void;
}

function forward(target: ForwardTarget, channels: Channels, port: number, channel: number): Forwarded {
  const number = Buffer.alloc(2);
  number.writeUInt16LE(port);
  void channels.send(channel, number);
  void channels.send(channel + 1, number);
  const { webSocket } = channels;
  let isClosed = false;
  const early: Buffer[] = [];
  let connection: Duplex | undefined;
  const fail = (error: unknown) => {
    if (!isClosed) void channels.send(channel + 1, Buffer.from(`forward port ${port}: ${messageOf(error)}`));
    isClosed = true;
  };
  target.connect(port).then(connected => {
    connection = connected;
    connected.on('error', fail);
    if (isClosed) {
      connected.destroy();
      return;
    }
    connected.on('data', (chunk: Buffer) => {
      const sent = channels.send(channel, chunk);
      if (!sent) return;
      connected.pause();
      void sent.then(() => connected.resume());
    });
    for (const bytes of early.splice(0)) void writeInput(connected, bytes);
    webSocket.resume();
  }, fail);
  return {
    take: bytes => {
      if (isClosed) return;
      if (!connection) {
        early.push(bytes);
        webSocket.pause();
        return;
      }
      const written = writeInput(connection, bytes);
      if (!written) return;
      webSocket.pause();
      void written.then(() => webSocket.resume());
    },
    close: () => {
      isClosed = true;
      connection?.destroy();
    },
  };
}
