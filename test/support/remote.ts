import { once } from 'node:events';
import { WebSocket } from 'ws';
import { SpdyClient, type ClientStream } from './spdy-client';

/** What an exec or attach is asked for. */
export interface Wanted {
  stdin?: boolean;
  stdout?: boolean;
  stderr?: boolean;
  tty?: boolean;
}

/** A client of one exec or attach, as kubectl and crictl are, over either transport. */
export interface Remote {
  readonly protocol: string;
  readonly stdout: string;
  readonly stderr: string;
  /** The outcome as it came: JSON from protocol version 4 on. */
  readonly status: Promise<string>;
  write(data: string | Buffer): Promise<void>;
  /** The end of stdin. */
  endInput(): Promise<void>;
  resize(columns: number, rows: number): Promise<void>;
  /** Resolves once stdout holds `text`. */
  printed(text: string): Promise<void>;
  /** Leaves, without a word. */
  cut(): void;
  /** The server has closed, or this client has. */
  readonly closed: Promise<void>;
  /** Stops reading from the network, and goes on. */
  pause(): void;
  resume(): void;
}

export type Transport = 'spdy' | 'websocket';

export async function connectRemote(transport: Transport, url: string, wanted: Wanted): Promise<Remote> {
  const filled = { stdin: false, stdout: true, stderr: !wanted.tty, tty: false, ...wanted };
  return transport === 'spdy' ? SpdyRemote.connect(url, filled) : WebSocketRemote.connect(url);
}

abstract class Received {
  protected readonly outputs = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  private waiting: { text: string; resolve: () => void }[] = [];
  readonly status: Promise<string>;
  protected tell: (status: string) => void = () => undefined;

  constructor() {
    this.status = new Promise(resolve => (this.tell = resolve));
  }

  get stdout(): string {
    return Buffer.concat(this.outputs.stdout).toString('latin1');
  }

  get stderr(): string {
    return Buffer.concat(this.outputs.stderr).toString('latin1');
  }

  async printed(text: string): Promise<void> {
    if (this.stdout.includes(text)) return;
    await new Promise<void>(resolve => this.waiting.push({ text, resolve }));
  }

  protected take(stream: 'stdout' | 'stderr', chunk: Buffer): void {
    this.outputs[stream].push(Buffer.from(chunk));
    if (this.waiting.length === 0) return;
    const { stdout } = this;
    for (const waiter of this.waiting.filter(({ text }) => stdout.includes(text))) waiter.resolve();
    this.waiting = this.waiting.filter(({ text }) => !stdout.includes(text));
  }
}

class SpdyRemote extends Received implements Remote {
  private constructor(
    private readonly client: SpdyClient,
    private readonly streams: Record<string, ClientStream>,
  ) {
    super();
    for (const name of ['stdout', 'stderr'] as const) {
      const stream = streams[name];
      if (!stream) continue;
      this.take(name, stream.received);
      stream.onData = chunk => this.take(name, chunk);
    }
    void this.end();
  }

  static async connect(url: string, wanted: Required<Wanted>): Promise<Remote> {
    const client = await SpdyClient.connect(url);
    const types = ['error', ...(['stdin', 'stdout', 'stderr'] as const).filter(name => wanted[name])];
    if (wanted.tty) types.push('resize');
    const streams: Record<string, ClientStream> = {};
    for (const type of types) streams[type] = await client.open({ streamtype: type });
    return new SpdyRemote(client, streams);
  }

  get protocol(): string {
    return this.client.protocol;
  }

  get closed(): Promise<void> {
    return this.client.closed;
  }

  async write(data: string | Buffer): Promise<void> {
    await this.streams['stdin']?.write(data);
  }

  async endInput(): Promise<void> {
    await this.streams['stdin']?.end();
  }

  async resize(columns: number, rows: number): Promise<void> {
    await this.streams['resize']?.write(`${JSON.stringify({ Width: columns, Height: rows })}\n`);
  }

  cut(): void {
    this.client.socket.destroy();
  }

  pause(): void {
    this.client.socket.pause();
  }

  resume(): void {
    this.client.socket.resume();
  }

  /** All outputs to their ends, then it closes: so do Go's clients. */
  private async end(): Promise<void> {
    const { stdout, stderr, error } = this.streams;
    await Promise.all([stdout?.over, stderr?.over, error?.over]);
    this.tell(error?.text ?? '');
    this.client.close();
  }
}

class WebSocketRemote extends Received implements Remote {
  readonly closed: Promise<void>;

  private constructor(private readonly webSocket: WebSocket) {
    super();
    let status = '';
    webSocket.on('message', (data: Buffer) => {
      const bytes = data.subarray(1);
      if (data[0] === 1) this.take('stdout', bytes);
      if (data[0] === 2) this.take('stderr', bytes);
      if (data[0] === 3) status += bytes.toString();
    });
    webSocket.on('error', () => undefined);
    this.closed = new Promise(resolve => webSocket.once('close', () => resolve()));
    void this.closed.then(() => this.tell(status));
  }

  static async connect(url: string): Promise<Remote> {
    const webSocket = new WebSocket(url.replace(/^http/, 'ws'), ['v5.channel.k8s.io']);
    const remote = new WebSocketRemote(webSocket);
    await once(webSocket, 'open');
    return remote;
  }

  get protocol(): string {
    return this.webSocket.protocol;
  }

  async write(data: string | Buffer): Promise<void> {
    const bytes = Buffer.from(data as Buffer);
    for (let at = 0; at < bytes.length; at += 32768) {
      await this.send(Buffer.concat([Buffer.from([0]), bytes.subarray(at, at + 32768)]));
    }
  }

  async endInput(): Promise<void> {
    await this.send(Buffer.from([255, 0]));
  }

  async resize(columns: number, rows: number): Promise<void> {
    await this.send(Buffer.from(`\x04${JSON.stringify({ Width: columns, Height: rows })}\n`));
  }

  cut(): void {
    this.webSocket.terminate();
  }

  pause(): void {
    this.webSocket.pause();
  }

  resume(): void {
    this.webSocket.resume();
  }

  private async send(message: Buffer): Promise<void> {
    await new Promise<void>(resolve => this.webSocket.send(message, () => resolve()));
  }
}
