import { createServer as createHttpServer, type IncomingMessage, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { isIPv6, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { BerthError, messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import type { Config } from '../config';
import type { CommandTarget, ForwardTarget, Limits, Target } from './backend';
import { serveSpdyForward, serveTunnelledForward, FORWARD_PROTOCOL } from './spdy-forward';
import { COMMAND_PROTOCOLS, serveSpdyCommand } from './spdy-command';
import { Certificates } from './certificates';
import { closeSoon } from './close-soon';
import { Tokens } from './tokens';
import { acceptSpdy, acceptWebSocket, refuse, transportOf, TUNNEL_SUBPROTOCOL, type Refusal } from './upgrade';
import { COMMAND_SUBPROTOCOLS, serveWebSocketCommand } from './websocket-command';
import { FORWARD_SUBPROTOCOLS, serveWebSocketForward } from './websocket-forward';

/** The kubelet's own limit on sessions is far lower. */
const MAX_CONNECTIONS = 4096;
/** How much a socket takes before it says that it is full: several chunks of output, so that they go out back to back. */
const SOCKET_BUFFER_BYTES = 256 * 1024;
const HEADERS_WITHIN_MS = 10_000;
/** For clients to hear the last words, and to close. */
const FAREWELL_MS = 1000;

const FAREWELLS = {
  exec: 'berth ends, and with it this session: the command runs on, and what it writes from now on is lost',
  attach:
    'berth ends, and with it this session: the container runs on; attach again, and see its log for what is between',
} as const;

/**
 * The HTTP server behind the URLs that Exec, Attach and PortForward answer with. A URL stands for one request, is good
 * once, and says nothing of it; there are no redirects and nothing else to ask for.
 */
export class StreamingServer {
  private readonly tokens = new Tokens<Target>();
  private readonly sessions = new Set<Socket>();
  /** Each tells a command's client that this server ends. */
  private readonly farewells = new Set<() => void>();
  private isClosing = false;

  private constructor(
    private readonly server: Server,
    private readonly scheme: 'http' | 'https',
    private readonly limits: Limits,
    private readonly log: Logger,
  ) {
    server.maxConnections = MAX_CONNECTIONS;
    server.maxHeadersCount = 64;
    server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) =>
      this.upgrade(request, socket, head),
    );
    server.on('request', (request, response) => {
      const { status, text } = this.refusalOf(request);
      response.writeHead(status, { 'content-type': 'text/plain', connection: 'close' }).end(text);
    });
    server.on('clientError', (_error, socket) => socket.destroy());
  }

  /** Listens as configured; throws what is wrong with the address or the certificates. */
  static async start(config: Config['streaming'], log: Logger): Promise<StreamingServer> {
    const options = { headersTimeout: HEADERS_WITHIN_MS, requestTimeout: 0, highWaterMark: SOCKET_BUFFER_BYTES };
    const certificates = Certificates.open(config.tlsCertFile, config.tlsKeyFile);
    assertReachable(config.address, certificates !== undefined);
    const server = certificates
      ? createHttpsServer({ ...options, ...certificates.current, minVersion: 'TLSv1.2' })
      : createHttpServer(options);
    certificates?.keepCurrent(server, log);
    const limits = { idleMs: config.idleTimeoutSeconds * 1000, creationMs: config.creationTimeoutSeconds * 1000 };
    await listening(server, config.address, config.port);
    const made = new StreamingServer(server, certificates ? 'https' : 'http', limits, log);
    log.info('streaming', { address: made.base });
    return made;
  }

  /** A URL for one client, within a minute. */
  command(kind: 'exec' | 'attach', command: CommandTarget): string {
    const open: CommandTarget['open'] = async (sink, gone) => {
      const process = await command.open(sink, this.whileServing(gone));
      return { ...process, ended: this.orFarewell(kind, process.ended) };
    };
    return `${this.base}/${kind}/${this.tokens.mint({ kind, command: { ...command, open } })}`;
  }

  forward(forward: ForwardTarget): string {
    return `${this.base}/portforward/${this.tokens.mint({ kind: 'portforward', forward })}`;
  }

  /**
   * Ends all sessions, and tells those of commands why: an end without a word looks like a success to Kubernetes's clients.
   * What runs in containers runs on: the daemon may be there again in a moment.
   */
  async close(): Promise<void> {
    this.isClosing = true;
    this.tokens.close();
    const closed = new Promise(resolve => this.server.close(resolve));
    if (this.farewells.size > 0) {
      const left = Promise.all(
        [...this.sessions].map(socket => new Promise<void>(resolve => socket.once('close', () => resolve()))),
      );
      for (const tell of this.farewells) tell();
      await Promise.race([left, sleep(FAREWELL_MS, undefined, { ref: false })]);
    }
    for (const socket of this.sessions) socket.destroy();
    this.server.closeAllConnections();
    await closed;
  }

  /** Rejects when this server ends before. */
  private async orFarewell<T>(kind: 'exec' | 'attach', ended: Promise<T>): Promise<T> {
    let tell: () => void = () => undefined;
    const closing = new Promise<never>((_, reject) => {
      tell = () => reject(new BerthError('unavailable', FAREWELLS[kind]));
    });
    this.farewells.add(tell);
    try {
      return await Promise.race([ended, closing]);
    } finally {
      this.farewells.delete(tell);
    }
  }

  /** A client that is gone because this server ends has not left by itself. */
  private whileServing(gone: AbortSignal): AbortSignal {
    const left = new AbortController();
    gone.addEventListener('abort', () => this.isClosing || left.abort(gone.reason), { once: true });
    return left.signal;
  }

  private get base(): string {
    const { address, port } = this.server.address() as AddressInfo;
    return `${this.scheme}://${isIPv6(address) ? `[${address}]` : address}:${port}`;
  }

  private upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    this.sessions.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => this.sessions.delete(socket));
    socket.setNoDelay(true);
    socket.setTimeout(this.limits.idleMs, () => socket.destroy());
    const target = this.targetOf(request);
    const transport = transportOf(request);
    if (!target || !transport) return refuse(socket, this.refusalOf(request));
    const work =
      transport === 'spdy' ? this.spdy(request, socket, head, target) : this.webSocket(request, socket, head, target);
    work.catch((error: unknown) => {
      this.log.info(`${target.kind} session: ${messageOf(error)}`);
      closeSoon(socket);
    });
  }

  private async spdy(request: IncomingMessage, socket: Socket, head: Buffer, target: Target): Promise<void> {
    const protocols = target.kind === 'portforward' ? [FORWARD_PROTOCOL] : COMMAND_PROTOCOLS;
    const connection = acceptSpdy(request, socket, head, protocols);
    if (!connection) return;
    if (target.kind === 'portforward') await serveSpdyForward(socket, target.forward, this.limits);
    else await serveSpdyCommand(connection, target.command, this.limits);
  }

  private async webSocket(request: IncomingMessage, socket: Socket, head: Buffer, target: Target): Promise<void> {
    const protocols = target.kind === 'portforward' ? FORWARD_SUBPROTOCOLS : COMMAND_SUBPROTOCOLS;
    const accepted = await acceptWebSocket(request, socket, head, protocols);
    if (!accepted) return;
    const { webSocket, protocol } = accepted;
    if (target.kind !== 'portforward') await serveWebSocketCommand(socket, webSocket, protocol, target.command);
    else if (protocol === TUNNEL_SUBPROTOCOL) await serveTunnelledForward(webSocket, target.forward, this.limits);
    else await serveWebSocketForward(socket, webSocket, protocol, target.forward);
  }

  /** What the URL stands for; that uses it up, whatever comes of it. */
  private targetOf(request: IncomingMessage): Target | undefined {
    if (request.method !== 'GET' && request.method !== 'POST') return undefined;
    const [, kind, token] = /^\/(exec|attach|portforward)\/([\w-]{22})(?:\?|$)/.exec(request.url ?? '') ?? [];
    return token === undefined ? undefined : this.tokens.take(token, target => target.kind === kind);
  }

  private refusalOf(request: IncomingMessage): Refusal {
    if (request.method !== 'GET' && request.method !== 'POST') return { status: 405, text: 'GET and POST only\n' };
    if (!request.headers.upgrade && this.targetOf(request)) {
      return { status: 400, text: 'an upgrade to SPDY/3.1 or WebSocket is missing\n' };
    }
    if (request.headers.upgrade && !transportOf(request)) {
      return { status: 400, text: 'only SPDY/3.1 and WebSocket (by GET) are spoken here\n' };
    }
    return { status: 404, text: 'no such session: a URL is good once, for a minute\n' };
  }
}

/** Who can reach it can run commands: without TLS that is this machine alone. */
function assertReachable(address: string, hasTls: boolean): void {
  const isLoopback = /^(127\.|::1$)/.test(address);
  if (['0.0.0.0', '::'].includes(address)) {
    throw new BerthError(
      'invalid_argument',
      `streaming.address ${address} is no address that a client could be sent to`,
      {
        hint: 'name one of the node, or 127.0.0.1',
      },
    );
  }
  if (isLoopback || hasTls) return;
  throw new BerthError(
    'invalid_argument',
    `streaming.address ${address} is not loopback, and there is no certificate`,
    {
      hint: 'set streaming.tls_cert_file and streaming.tls_key_file, or use 127.0.0.1',
    },
  );
}

async function listening(server: Server, address: string, port: number): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: address, port }, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } catch (error) {
    throw new BerthError('failed_precondition', `serve streams on ${address} port ${port}: ${messageOf(error)}`, {
      cause: error,
      hint: 'choose another streaming.address or streaming.port; port 0 takes any',
    });
  }
}
