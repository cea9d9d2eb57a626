import { BerthError } from '../base/errors';
import type { CommandTarget, Limits, RemoteProcess } from './backend';
import { ResizeReader, writeInput } from './input';
import { serveCommand, type RemoteClient } from './remote-command';
import { SpdyConnection, type SpdyStream } from './spdy/connection';
import { RST } from './spdy/frames';
import { statusJson, statusText, type Outcome } from './status';
import type { Connection } from './upgrade';

/** Newest first. Before version 4 the outcome is text, and before version 3 nobody can resize. */
export const COMMAND_PROTOCOLS = [
  'v5.channel.k8s.io',
  'v4.channel.k8s.io',
  'v3.channel.k8s.io',
  'v2.channel.k8s.io',
  'channel.k8s.io',
] as const;

/** A client that has been told everything and does not close is cut off after this long. */
const FAREWELL_MS = 30_000;

type StreamType = 'error' | 'stdin' | 'stdout' | 'stderr' | 'resize';

/** Exec or attach over SPDY: a stream for each of stdin, stdout, stderr, resize and error. */
export async function serveSpdyCommand(
  { socket, protocol }: Connection,
  target: CommandTarget,
  limits: Limits,
): Promise<void> {
  const wanted = wantedStreams(target, protocol);
  const collected = new StreamsOfCommand(wanted);
  const connection = new SpdyConnection(socket, {
    maxStreams: wanted.size,
    onStream: stream => collected.add(stream),
  });
  const reading = connection.run();
  const timer = setTimeout(() => socket.destroy(), limits.creationMs);
  const closed = new Promise<undefined>(resolve => socket.once('close', () => resolve(undefined)));
  reading.catch(() => undefined);
  const streams = await Promise.race([collected.complete, closed]);
  clearTimeout(timer);
  if (streams) await serveCommand(new SpdyClient(socket, streams, protocol, closed), target);
  await reading;
}

function wantedStreams(target: CommandTarget, protocol: string): Set<StreamType> {
  const wanted = new Set<StreamType>(['error']);
  if (target.stdin) wanted.add('stdin');
  if (target.stdout) wanted.add('stdout');
  if (target.stderr && !target.tty) wanted.add('stderr');
  if (target.tty && !['v2.channel.k8s.io', 'channel.k8s.io'].includes(protocol)) wanted.add('resize');
  return wanted;
}

type Streams = ReadonlyMap<StreamType, SpdyStream>;

/** Waits for the streams of a request. One that is not wanted, or is there already, is refused. */
class StreamsOfCommand {
  readonly complete: Promise<Streams>;
  private readonly have = new Map<StreamType, SpdyStream>();
  private resolve: (streams: Streams) => void = () => undefined;

  constructor(private readonly wanted: ReadonlySet<StreamType>) {
    this.complete = new Promise(resolve => (this.resolve = resolve));
  }

  add(stream: SpdyStream): void {
    const type = stream.headers.get('streamtype') as StreamType;
    if (!this.wanted.has(type) || this.have.has(type)) {
      stream.reset(RST.refusedStream);
      return;
    }
    stream.accept();
    this.have.set(type, stream);
    if (this.have.size === this.wanted.size) this.resolve(this.have);
  }
}

class SpdyClient implements RemoteClient {
  readonly gone: AbortSignal;

  constructor(
    private readonly socket: Connection['socket'],
    private readonly streams: Streams,
    private readonly protocol: string,
    private readonly closed: Promise<undefined>,
  ) {
    const gone = new AbortController();
    void closed.then(() => gone.abort(new BerthError('cancelled', 'the client has gone')));
    this.gone = gone.signal;
  }

  readonly sink = (stream: 'stdout' | 'stderr', chunk: Buffer) => this.streams.get(stream)?.write(chunk);

  feed(process: RemoteProcess): void {
    const sizes = new ResizeReader(process);
    this.streams.get('stdin')?.read({
      data: bytes => writeInput(process.stdin, bytes),
      end: () => process.stdin?.end(),
      gone: () => process.stdin?.end(),
    });
    this.streams.get('resize')?.read({ data: bytes => sizes.take(bytes), end: nothing, gone: nothing });
  }

  async finish(outcome: Outcome): Promise<void> {
    this.streams.get('stdin')?.reset();
    this.streams.get('resize')?.reset();
    const isOld = !['v5.channel.k8s.io', 'v4.channel.k8s.io'].includes(this.protocol);
    await this.streams.get('error')?.write(Buffer.from(isOld ? statusText(outcome) : statusJson(outcome)));
    for (const type of ['stdout', 'stderr', 'error'] as const) this.streams.get(type)?.end();
    const timer = setTimeout(() => this.socket.destroy(), FAREWELL_MS);
    await this.closed;
    clearTimeout(timer);
  }
}

function nothing(): void {
  // Its end means nothing.
}
