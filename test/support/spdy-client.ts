import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { constants, createDeflate, createInflate, type Deflate, type Inflate } from 'node:zlib';
import { DICTIONARY } from '../../src/streaming/spdy/dictionary';

/** The answer to an upgrade that was refused. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly head: string,
  ) {
    super(`HTTP status ${status}`);
  }
}

/** One stream as a client sees it. */
export class ClientStream {
  received: Buffer = Buffer.alloc(0);
  /** 'reply' or 'reset', whichever came first. */
  readonly answered: Promise<'reply' | 'reset'>;
  /** The server has said all, or has reset the stream, or the connection is gone. */
  readonly over: Promise<'end' | 'reset' | 'gone'>;
  onData: (chunk: Buffer) => void = chunk => (this.received = Buffer.concat([this.received, chunk]));
  /** @internal */
  answer: (how: 'reply' | 'reset') => void = () => undefined;
  /** @internal */
  finish: (how: 'end' | 'reset' | 'gone') => void = () => undefined;

  constructor(
    private readonly client: SpdyClient,
    readonly id: number,
  ) {
    this.answered = new Promise(resolve => (this.answer = resolve));
    this.over = new Promise(resolve => (this.finish = resolve));
  }

  get text(): string {
    return this.received.toString();
  }

  async write(data: string | Buffer, isLast = false): Promise<void> {
    const bytes = Buffer.from(data as Buffer);
    for (let at = 0; at < bytes.length || at === 0; at += 32768) {
      const piece = bytes.subarray(at, at + 32768);
      const fin = isLast && at + 32768 >= bytes.length;
      await this.client.send(Buffer.concat([dataHeader(this.id, fin, piece.length), piece]));
    }
  }

  async end(): Promise<void> {
    await this.client.send(dataHeader(this.id, true, 0));
  }

  async reset(): Promise<void> {
    await this.client.send(controlFrame(3, 0, Buffer.concat([u32(this.id), u32(5)])));
  }
}

/** A SPDY/3.1 client as Kubernetes's are: no flow control, its own framing; it shares the dictionary alone with the server. */
export class SpdyClient {
  readonly streams = new Map<number, ClientStream>();
  readonly closed: Promise<void>;
  /** Types of control frames that came. */
  readonly control: number[] = [];
  readonly pings: number[] = [];
  private readonly deflate: Deflate = createDeflate({ dictionary: DICTIONARY });
  private readonly inflate: Inflate = createInflate({ dictionary: DICTIONARY, flush: constants.Z_SYNC_FLUSH });
  private pending: Buffer = Buffer.alloc(0);
  private nextId = 1;
  private sending: Promise<void> = Promise.resolve();

  private constructor(
    readonly socket: Duplex,
    readonly protocol: string,
    rest: Buffer,
  ) {
    this.inflate.on('error', error => socket.destroy(error));
    this.inflate.resume();
    this.closed = new Promise(resolve => socket.once('close', () => resolve()));
    void this.closed.then(() => {
      for (const stream of this.streams.values()) stream.finish('gone');
    });
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => this.take(chunk));
    this.take(rest);
  }

  /** Upgrades; rejects with `Refused` when the server does not. */
  static async connect(
    url: string,
    protocols: readonly string[] = ['v5.channel.k8s.io', 'v4.channel.k8s.io'],
  ): Promise<SpdyClient> {
    const { hostname, port, pathname } = new URL(url);
    const socket = connect(Number(port), hostname);
    await once(socket, 'connect');
    const lines = [
      `POST ${pathname} HTTP/1.1`,
      `Host: ${hostname}:${port}`,
      'Content-Length: 0',
      'Connection: Upgrade',
      'Upgrade: SPDY/3.1',
      ...protocols.map(name => `X-Stream-Protocol-Version: ${name}`),
    ];
    socket.write(`${lines.join('\r\n')}\r\n\r\n`);
    const { head, rest } = await headOf(socket);
    const status = Number(head.split(' ')[1]);
    if (status !== 101) {
      socket.destroy();
      throw new Refused(status, head);
    }
    const protocol = /^x-stream-protocol-version: (.*)$/im.exec(head)?.[1] ?? '';
    return new SpdyClient(socket, protocol.trim(), rest);
  }

  /** On a connection that speaks SPDY already. */
  static over(socket: Duplex): SpdyClient {
    return new SpdyClient(socket, '', Buffer.alloc(0));
  }

  /** Sends bytes as they are, in turn. */
  async send(bytes: Buffer): Promise<void> {
    await (this.sending = this.sending.then(async () => {
      if (!this.socket.destroyed && !this.socket.write(bytes)) {
        await Promise.race([once(this.socket, 'drain'), this.closed]);
      }
    }));
  }

  /** Opens a stream without waiting for the answer. */
  begin(headers: Record<string, string>, options: { fin?: boolean; id?: number } = {}): ClientStream {
    const id = options.id ?? this.nextId;
    this.nextId = id + 2;
    const stream = new ClientStream(this, id);
    this.streams.set(id, stream);
    this.sending = this.sending.then(async () => {
      const block = await this.compress(headerBlock(headers));
      this.socket.write(
        controlFrame(1, options.fin ? 1 : 0, Buffer.concat([u32(id), u32(0), Buffer.from([0, 0]), block])),
      );
    });
    return stream;
  }

  /** Opens a stream and waits until the server has accepted it. */
  async open(headers: Record<string, string>): Promise<ClientStream> {
    const stream = this.begin(headers);
    const how = await Promise.race([stream.answered, this.closed.then(() => 'gone')]);
    if (how !== 'reply') throw new Error(`stream ${JSON.stringify(headers)}: ${how}`);
    return stream;
  }

  close(): void {
    this.socket.end();
  }

  async ping(id: number): Promise<void> {
    await this.send(controlFrame(6, 0, u32(id)));
  }

  private async compress(bytes: Buffer): Promise<Buffer> {
    const parts: Buffer[] = [];
    const take = (part: Buffer) => parts.push(part);
    this.deflate.on('data', take);
    this.deflate.write(bytes);
    await new Promise<void>(resolve => this.deflate.flush(constants.Z_SYNC_FLUSH, () => resolve()));
    this.deflate.off('data', take);
    return Buffer.concat(parts);
  }

  private take(chunk: Buffer): void {
    this.pending = Buffer.concat([this.pending, chunk]);
    while (this.pending.length >= 8) {
      const length = this.pending.readUIntBE(5, 3);
      if (this.pending.length < 8 + length) return;
      this.handle(this.pending.subarray(0, 8), this.pending.subarray(8, 8 + length));
      this.pending = this.pending.subarray(8 + length);
    }
  }

  private handle(header: Buffer, payload: Buffer): void {
    const first = header.readUInt32BE(0);
    if (first >>> 31 === 0) {
      const stream = this.streams.get(first);
      if (payload.length > 0) stream?.onData(payload);
      if ((header[4] ?? 0) & 1) stream?.finish('end');
      return;
    }
    const type = first & 0xffff;
    this.control.push(type);
    if (type === 2) {
      // Its end of block lets Go's inflater hand it out: so must ours be able to read each reply when it comes.
      this.inflate.write(payload.subarray(4));
      this.streams.get(payload.readUInt32BE(0))?.answer('reply');
    } else if (type === 3) {
      const stream = this.streams.get(payload.readUInt32BE(0));
      stream?.answer('reset');
      stream?.finish('reset');
    } else if (type === 6) this.pings.push(payload.readUInt32BE(0));
  }
}

function headerBlock(headers: Record<string, string>): Buffer {
  const entries = Object.entries(headers);
  const text = (value: string) => Buffer.concat([u32(value.length), Buffer.from(value)]);
  return Buffer.concat([u32(entries.length), ...entries.flatMap(([name, value]) => [text(name), text(value)])]);
}

export function controlFrame(type: number, flags: number, payload: Buffer, version = 3): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(payload.length);
  length[0] = flags;
  return Buffer.concat([u32(((1 << 31) | (version << 16) | type) >>> 0), length, payload]);
}

function dataHeader(id: number, fin: boolean, length: number): Buffer {
  const rest = Buffer.alloc(4);
  rest.writeUInt32BE(length);
  rest[0] = fin ? 1 : 0;
  return Buffer.concat([u32(id), rest]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

async function headOf(socket: Socket): Promise<{ head: string; rest: Buffer }> {
  let seen: Buffer = Buffer.alloc(0);
  return new Promise((resolve, reject) => {
    const onData = (chunk: Buffer) => {
      seen = Buffer.concat([seen, chunk]);
      const end = seen.indexOf('\r\n\r\n');
      if (end < 0) return;
      socket.off('data', onData).pause();
      resolve({ head: seen.toString('latin1', 0, end), rest: Buffer.from(seen.subarray(end + 4)) });
      setImmediate(() => socket.resume());
    };
    socket.on('data', onData);
    socket.once('close', () => reject(new Error('closed before an answer')));
    socket.once('error', reject);
  });
}
