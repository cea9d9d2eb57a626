import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketServer, type WebSocket } from 'ws';

/** A connection that has left HTTP, with the protocol that was agreed on. */
export interface Connection {
  socket: Socket;
  protocol: string;
}

/** An HTTP answer instead of an upgrade. */
export interface Refusal {
  status: number;
  text: string;
  headers?: readonly string[];
}

const PHRASE: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
};

/** The largest message of a client: stdin comes in pieces of 32 KiB. */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

export function refuse(socket: Duplex, { status, text, headers = [] }: Refusal): void {
  const lines = [
    `HTTP/1.1 ${status} ${PHRASE[status] ?? ''}`,
    'Content-Type: text/plain',
    `Content-Length: ${Buffer.byteLength(text)}`,
    'Connection: close',
    ...headers,
  ];
  socket.end(`${lines.join('\r\n')}\r\n\r\n${text}`);
}

/** Which transport a request asks for. */
export function transportOf({ headers, method }: IncomingMessage): 'spdy' | 'websocket' | undefined {
  const upgrade = (headers.upgrade ?? '').toLowerCase();
  if (upgrade === 'spdy/3.1') return 'spdy';
  return upgrade === 'websocket' && method === 'GET' ? 'websocket' : undefined;
}

const VERSION_HEADER = 'x-stream-protocol-version';

/** Answers 101 with the client's first protocol that is one of `supported`, or says why not. */
export function acceptSpdy(
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
  supported: readonly string[],
): Connection | undefined {
  const asked = listOf(request.headersDistinct[VERSION_HEADER]);
  if (asked.length === 0) {
    refuse(socket, { status: 400, text: 'the header X-Stream-Protocol-Version is missing\n' });
    return undefined;
  }
  const protocol = asked.find(name => supported.includes(name));
  if (protocol === undefined) {
    const headers = supported.map(name => `X-Accepted-Stream-Protocol-Versions: ${name}`);
    refuse(socket, { status: 403, text: 'none of the protocols asked for is supported\n', headers });
    return undefined;
  }
  socket.write(
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n' +
      `X-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
  );
  // The client need not have waited for the answer.
  if (head.length > 0) socket.unshift(head);
  return { socket, protocol };
}

/** A name that a token of HTTP cannot be, so that `ws` refuses it. */
export const TUNNEL_SUBPROTOCOL = 'SPDY/3.1+portforward.k8s.io';

/** Makes the WebSocket, with the client's first subprotocol that is one of `supported`; a client may ask for none. */
export async function acceptWebSocket(
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
  supported: readonly string[],
): Promise<{ webSocket: WebSocket; protocol: string } | undefined> {
  const asked = listOf(request.headersDistinct['sec-websocket-protocol']);
  const protocol = asked.find(name => supported.includes(name));
  if (asked.length > 0 && protocol === undefined) {
    refuse(socket, { status: 403, text: 'none of the WebSocket subprotocols asked for is supported\n' });
    return undefined;
  }
  const isTunnel = protocol === TUNNEL_SUBPROTOCOL;
  if (isTunnel) delete request.headers['sec-websocket-protocol'];
  const server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    handleProtocols: () => protocol ?? false,
  });
  server.on('wsClientError', (error, client) => refuse(client, { status: 400, text: `${error.message}\n` }));
  if (isTunnel) server.on('headers', lines => lines.push(`Sec-WebSocket-Protocol: ${TUNNEL_SUBPROTOCOL}`));
  return new Promise(resolve => {
    socket.once('close', () => resolve(undefined));
    server.handleUpgrade(request, socket, head, webSocket => {
      // What a broken frame does is close it, and 'close' is what counts.
      webSocket.on('error', () => webSocket.terminate());
      resolve({ webSocket, protocol: protocol ?? '' });
    });
  });
}

/** Comma lists, possibly in several headers. */
function listOf(values: readonly string[] | undefined): string[] {
  return (values ?? [])
    .flatMap(value => value.split(','))
    .map(name => name.trim())
    .filter(name => name !== '');
}
