import type { WebSocket } from 'ws';
import { BerthError } from '../base/errors';
import type { CommandTarget, RemoteProcess } from './backend';
import { drained } from './drained';
import { ResizeReader, writeInput } from './input';
import { serveCommand, type RemoteClient } from './remote-command';
import { statusJson, statusText, type Outcome } from './status';
import type { Connection } from './upgrade';
import { messageHeader, writeFrame } from './write-frame';

/** Newest first; a client may also ask for none, which is the oldest. */
export const COMMAND_SUBPROTOCOLS = [
  'v5.channel.k8s.io',
  'v4.channel.k8s.io',
  'channel.k8s.io',
  'v5.base64.channel.k8s.io',
  'v4.base64.channel.k8s.io',
  'base64.channel.k8s.io',
] as const;

const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const;

/** Version 5: the byte after it is a channel that the client closes. */
const CLOSE_SIGNAL = 255;

/** So much is held before the process is there; then the client waits. */
const MAX_EARLY_BYTES = 64 * 1024;

/** Exec or attach over WebSocket: each message begins with the number of its channel. */
export async function serveWebSocketCommand(
  socket: Connection['socket'],
  webSocket: WebSocket,
  protocol: string,
  target: CommandTarget,
): Promise<void> {
  await serveCommand(new WebSocketClient(socket, webSocket, protocol, target), target);
}

class WebSocketClient implements RemoteClient {
  readonly gone: AbortSignal;
  private readonly isBase64: boolean;
  private readonly isNew: boolean;
  private readonly knowsClose: boolean;
  private readonly closed: Promise<void>;
  private process: RemoteProcess | undefined;
  private sizes: ResizeReader | undefined;
  private early: Buffer[] = [];
  private earlyBytes = 0;

  constructor(
    private readonly socket: Connection['socket'],
    private readonly webSocket: WebSocket,
    protocol: string,
    private readonly target: CommandTarget,
  ) {
    this.isBase64 = protocol.includes('base64.');
    this.isNew = /^v[45]\./.test(protocol);
    this.knowsClose = protocol.startsWith('v5.');
    const gone = new AbortController();
    this.gone = gone.signal;
    this.closed = new Promise(resolve => {
      webSocket.once('close', () => {
        gone.abort(new BerthError('cancelled', 'the client has gone'));
        resolve();
      });
    });
    webSocket.on('message', (data: Buffer) => this.receive(data));
    this.greet();
  }

  readonly sink = (stream: 'stdout' | 'stderr', chunk: Buffer): void | Promise<void> => {
    if (this.target[stream]) return this.send(CHANNEL[stream], chunk);
  };

  feed(process: RemoteProcess): void {
    this.process = process;
    this.sizes = new ResizeReader(process);
    for (const message of this.early.splice(0)) this.receive(message);
    this.webSocket.resume();
    if (this.gone.aborted) process.stdin?.end();
    this.gone.addEventListener('abort', () => process.stdin?.end(), { once: true });
  }

  async finish(outcome: Outcome): Promise<void> {
    const status = this.isNew ? statusJson(outcome) : statusText(outcome);
    if (status !== '') await this.send(CHANNEL.error, Buffer.from(status));
    this.webSocket.close(1000);
    await this.closed;
  }

  /** Old clients wait for a first message before they write. */
  private greet(): void {
    const { stdout, stderr } = this.target;
    void this.send(stdout ? CHANNEL.stdout : stderr ? CHANNEL.stderr : CHANNEL.error, Buffer.alloc(0));
  }

  private send(channel: number, bytes: Buffer): void | Promise<void> {
    if (this.webSocket.readyState !== this.webSocket.OPEN) return;
    if (!this.isBase64) return writeFrame(this.socket, messageHeader(channel, bytes.length), bytes);
    this.webSocket.send(`${channel}${bytes.toString('base64')}`);
    if (this.socket.writableNeedDrain) return drained(this.socket);
  }

  private receive(message: Buffer): void {
    if (message.length === 0) return;
    if (!this.process) return this.keep(message);
    const first = message[0] ?? 0;
    if (this.knowsClose && !this.isBase64 && first === CLOSE_SIGNAL) {
      if (message[1] === CHANNEL.stdin) this.process.stdin?.end();
      return;
    }
    const channel = this.isBase64 ? first - 0x30 : first;
    const bytes = this.isBase64 ? Buffer.from(message.toString('latin1', 1), 'base64') : message.subarray(1);
    if (channel === CHANNEL.resize) this.sizes?.take(bytes);
    if (channel === CHANNEL.stdin && this.target.stdin && bytes.length > 0) this.takeInput(bytes);
  }

  private takeInput(bytes: Buffer): void {
    const written = writeInput(this.process?.stdin, bytes);
    if (!written) return;
    this.webSocket.pause();
    void written.then(() => this.webSocket.resume());
  }

  private keep(message: Buffer): void {
    this.earlyBytes += message.length;
    this.early.push(message);
    if (this.earlyBytes > MAX_EARLY_BYTES) this.webSocket.pause();
  }
}
