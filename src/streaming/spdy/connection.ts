import type { Duplex } from 'node:stream';
import { BerthError } from '../../base/errors';
import { closeSoon } from '../close-soon';
import { drained } from '../drained';
import { writeFrame } from '../write-frame';
import {
  broken,
  dataHeader,
  FLAG_FIN,
  FrameReader,
  goaway,
  ping,
  RST,
  rstStream,
  synReply,
  TYPE,
  type Frame,
} from './frames';
import { HeaderReader, HeaderWriter, type Headers } from './headers';

/** Who reads a stream. A returned promise holds back the whole connection: SPDY's clients know no other way. */
export interface StreamReader {
  data(bytes: Buffer): void | Promise<void>;
  /** The client has said all on this stream. */
  end(): void;
  /** The client wants no more of it, or the connection is gone. */
  gone(): void;
}

export interface ConnectionOptions {
  /** Open at the same time; a client that wants more is refused. */
  maxStreams: number;
  /** A new stream, not replied to yet: it is accepted, or reset, at once. */
  onStream(stream: SpdyStream): void;
}

/** So much of a stream is held before somebody reads it; then the connection waits. */
const MAX_EARLY_BYTES = 64 * 1024;

/**
 * The server's side of one SPDY/3.1 connection. `run` reads it to its end; what goes wrong with a stream ends that
 * stream, and what goes wrong with the framing ends the connection.
 */
export class SpdyConnection {
  private readonly streams = new Map<number, SpdyStream>();
  private readonly reader = new FrameReader();
  private readonly headers = new HeaderReader();
  private readonly replies = new HeaderWriter();
  private lastStreamId = 0;

  constructor(
    private readonly socket: Duplex,
    private readonly options: ConnectionOptions,
  ) {
    socket.on('error', () => socket.destroy());
    socket.once('close', () => this.lose());
  }

  /** Reads until the client has closed; rejects with `invalid_argument` when it does not speak SPDY. */
  async run(): Promise<void> {
    try {
      const chunks = this.socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
      for await (const chunk of chunks) {
        for (const frame of this.reader.take(chunk)) await this.handle(frame);
      }
    } catch (error) {
      // Anything else is the end of a connection that was cut.
      if (!(error instanceof BerthError)) return;
      this.send(goaway(this.lastStreamId, RST.protocolError));
      throw error;
    } finally {
      this.headers.close();
      closeSoon(this.socket);
    }
  }

  /** @internal For `SpdyStream`. */
  sendData(streamId: number, flags: number, bytes: Buffer): void | Promise<void> {
    return writeFrame(this.socket, dataHeader(streamId, flags, bytes.length), bytes);
  }

  /** @internal For `SpdyStream`. */
  send(frame: Buffer): void {
    if (!this.socket.destroyed) this.socket.write(frame);
  }

  /** @internal For `SpdyStream`. */
  reply(streamId: number): void {
    this.send(synReply(streamId, this.replies.none()));
  }

  /** @internal For `SpdyStream`. */
  forget(stream: SpdyStream): void {
    this.streams.delete(stream.id);
  }

  private lose(): void {
    for (const stream of [...this.streams.values()]) stream.lose();
    this.streams.clear();
  }

  private async handle(frame: Frame): Promise<void> {
    if (frame.kind === 'data') {
      // Of a stream that was reset meanwhile: the client could not know.
      await this.streams.get(frame.streamId)?.deliver(frame.bytes, frame.fin);
      return;
    }
    const { type, flags, payload } = frame;
    switch (type) {
      case TYPE.synStream:
        await this.open(flags, payload);
        break;
      case TYPE.headers:
        need(payload, 4);
        await this.headers.read(payload.subarray(4));
        break;
      case TYPE.rstStream:
        need(payload, 8);
        this.streams.get(payload.readUInt32BE(0) & 0x7fffffff)?.lose();
        break;
      case TYPE.ping:
        need(payload, 4);
        if (payload.readUInt8(3) % 2 === 1) this.send(ping(payload.subarray(0, 4)));
        break;
      default: // settings, window updates, goaway: nothing follows from them
    }
    // Whoever makes us answer and does not read the answers waits here.
    if (this.socket.writableNeedDrain) await drained(this.socket);
  }

  private async open(flags: number, payload: Buffer): Promise<void> {
    need(payload, 10);
    const id = payload.readUInt32BE(0) & 0x7fffffff;
    if (id % 2 === 0 || id <= this.lastStreamId) throw broken(`stream ${id} after ${this.lastStreamId}`);
    this.lastStreamId = id;
    const stream = new SpdyStream(this, id, await this.headers.read(payload.subarray(10)));
    if (this.streams.size >= this.options.maxStreams) {
      this.send(rstStream(id, RST.refusedStream));
      return;
    }
    this.streams.set(id, stream);
    this.options.onStream(stream);
    if (flags & FLAG_FIN) await stream.deliver(Buffer.alloc(0), true);
  }
}

/** One stream, opened by the client. It is open both ways at first; each side ends its own, and either can reset it. */
export class SpdyStream {
  private reader: StreamReader | undefined;
  private readonly early: Buffer[] = [];
  private earlyBytes = 0;
  private whenRead: () => void = nothing;
  private hasEnded = { here: false, there: false };
  private isOver = false;

  constructor(
    private readonly connection: SpdyConnection,
    readonly id: number,
    readonly headers: Headers,
  ) {}

  /** Tells the client that the stream is there. */
  accept(): void {
    this.connection.reply(this.id);
  }

  /** What has come already is handed over at once. */
  read(reader: StreamReader): void {
    this.reader = reader;
    for (const bytes of this.early.splice(0)) void reader.data(bytes);
    this.whenRead();
    if (this.hasEnded.there) reader.end();
    if (this.isOver) reader.gone();
  }

  /** A returned promise settles when there is room for more, or nobody there any more. */
  write(bytes: Buffer): void | Promise<void> {
    if (this.isOver || this.hasEnded.here || bytes.length === 0) return;
    return this.connection.sendData(this.id, 0, bytes);
  }

  /** That was all from here. */
  end(): void {
    if (this.isOver || this.hasEnded.here) return;
    this.hasEnded.here = true;
    void this.connection.sendData(this.id, FLAG_FIN, Buffer.alloc(0));
    this.endIfBoth();
  }

  reset(reason: number = RST.cancel): void {
    if (this.isOver) return;
    this.connection.send(rstStream(this.id, reason));
    this.lose();
  }

  /** @internal For the connection. */
  async deliver(bytes: Buffer, fin: boolean): Promise<void> {
    if (this.isOver || this.hasEnded.there) return;
    if (bytes.length > 0) await this.hand(bytes);
    if (!fin) return;
    this.hasEnded.there = true;
    this.reader?.end();
    this.endIfBoth();
  }

  /** @internal For the connection: no more of it is sent or heard. */
  lose(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.connection.forget(this);
    this.early.length = 0;
    this.whenRead();
    this.reader?.gone();
  }

  private async hand(bytes: Buffer): Promise<void> {
    if (this.reader) {
      await this.reader.data(bytes);
      return;
    }
    this.early.push(bytes);
    this.earlyBytes += bytes.length;
    if (this.earlyBytes > MAX_EARLY_BYTES) await new Promise<void>(resolve => (this.whenRead = resolve));
  }

  private endIfBoth(): void {
    if (!this.hasEnded.here || !this.hasEnded.there) return;
    this.isOver = true;
    this.connection.forget(this);
  }
}

function nothing(): void {
  // Nobody waits.
}

function need(payload: Buffer, bytes: number): void {
  if (payload.length < bytes) throw broken('a control frame is too short for its type');
}
