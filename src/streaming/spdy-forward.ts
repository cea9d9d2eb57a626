import type { Duplex } from 'node:stream';
import { createWebSocketStream, type WebSocket } from 'ws';
import { messageOf } from '../base/errors';
import type { ForwardTarget, Limits } from './backend';
import { writeInput } from './input';
import { SpdyConnection, type SpdyStream } from './spdy/connection';
import { RST } from './spdy/frames';

export const FORWARD_PROTOCOL = 'portforward.k8s.io';

/** Open at the same time, two for each forwarded connection. */
const MAX_STREAMS = 1024;

/** Port-forward over SPDY: a pair of streams, error and data, for each TCP connection. */
export async function serveSpdyForward(socket: Duplex, target: ForwardTarget, limits: Limits): Promise<void> {
  const pairs = new Pairs(target, limits.creationMs);
  const connection = new SpdyConnection(socket, { maxStreams: MAX_STREAMS, onStream: stream => pairs.add(stream) });
  try {
    await connection.run();
  } finally {
    pairs.close();
  }
}

/** The same inside of the binary messages of a WebSocket. */
export async function serveTunnelledForward(
  webSocket: WebSocket,
  target: ForwardTarget,
  limits: Limits,
): Promise<void> {
  await serveSpdyForward(createWebSocketStream(webSocket), target, limits);
}

interface Pair {
  port: number;
  error?: SpdyStream;
  data?: SpdyStream;
  timer: NodeJS.Timeout;
}

/** Brings the two streams of a connection together, by their request id. */
class Pairs {
  private readonly incomplete = new Map<string, Pair>();

  constructor(
    private readonly target: ForwardTarget,
    private readonly creationMs: number,
  ) {}

  add(stream: SpdyStream): void {
    const type = stream.headers.get('streamtype');
    const port = portOf(stream.headers.get('port') ?? '');
    if ((type !== 'error' && type !== 'data') || port === undefined || !this.allows(port)) {
      stream.reset(RST.refusedStream);
      return;
    }
    const id = stream.headers.get('requestid') ?? String(type === 'error' ? stream.id : stream.id - 2);
    const pair = this.incomplete.get(id) ?? this.begin(id, port);
    if (pair[type] || pair.port !== port) {
      stream.reset(RST.refusedStream);
      return;
    }
    pair[type] = stream;
    stream.accept();
    const { error, data } = pair;
    if (!error || !data) return;
    this.forget(id);
    forward(this.target, port, error, data);
  }

  close(): void {
    for (const id of [...this.incomplete.keys()]) this.forget(id);
  }

  private allows(port: number): boolean {
    return this.target.ports.length === 0 || this.target.ports.includes(port);
  }

  private begin(id: string, port: number): Pair {
    const timer = setTimeout(() => {
      const { error, data } = this.incomplete.get(id) ?? {};
      this.forget(id);
      void error?.write(Buffer.from(`port ${port}: the other stream of the connection did not come`));
      error?.end();
      error?.reset(RST.cancel);
      data?.reset(RST.cancel);
    }, this.creationMs);
    const pair: Pair = { port, timer };
    this.incomplete.set(id, pair);
    return pair;
  }

  private forget(id: string): void {
    clearTimeout(this.incomplete.get(id)?.timer);
    this.incomplete.delete(id);
  }
}

function portOf(text: string): number | undefined {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  return port > 0 && port < 65536 ? port : undefined;
}

/** Carries one connection to its end. What goes wrong is told on the error stream, and the others go on. */
function forward(target: ForwardTarget, port: number, error: SpdyStream, data: SpdyStream): void {
  let socket: Duplex | undefined;
  let isOver = false;
  const fail = (why: unknown) => {
    if (isOver) return;
    isOver = true;
    void error.write(Buffer.from(`forward port ${port}: ${messageOf(why)}`));
    error.end();
    data.reset(RST.cancel);
    socket?.destroy();
  };
  target.connect(port).then(connected => {
    socket = connected;
    connected.on('error', fail);
    connected.once('close', () => {
      isOver = true;
      data.end();
      error.end();
    });
    if (isOver) {
      connected.destroy();
      return;
    }
    connected.on('data', (chunk: Buffer) => {
      const written = data.write(chunk);
      if (!written) return;
      connected.pause();
      void written.then(() => connected.resume());
    });
    connected.once('end', () => {
      data.end();
      // Clients wait for this before they close their side.
      error.end();
    });
    data.read({
      data: bytes => writeInput(connected, bytes),
      end: () => connected.end(),
      gone: () => {
        isOver = true;
        connected.destroy();
      },
    });
  }, fail);
}
