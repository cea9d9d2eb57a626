import { createConnection, type Socket } from 'node:net';
import { BerthError, messageOf } from '../base/errors';
import { decodeMessage, encodeMessage, type Message } from './message';
import type { Value } from './values';

/** A method call; without a destination it is for whoever is at the socket's other end. */
export interface MethodCall {
  destination?: string;
  path: string;
  interface: string;
  member: string;
  signature?: string;
  body?: readonly Value[];
}

/** The other side's answer that it did not do it. */
export class RemoteError extends BerthError {
  constructor(
    /** Such as `org.freedesktop.systemd1.NoSuchUnit`. */
    readonly errorName: string,
    message: string,
  ) {
    super('internal', message);
    this.name = 'RemoteError';
  }
}

/** Nobody can tell whether what was asked for was done. */
export class ConnectionLost extends BerthError {
  constructor(message: string, cause?: unknown) {
    super('unavailable', message, { cause });
    this.name = 'ConnectionLost';
  }
}

interface Pending {
  resolve(body: readonly Value[]): void;
  reject(error: BerthError): void;
}

/** dbus-daemon refuses more than its configured number of calls that wait for replies, in some versions 128. */
const MAX_UNANSWERED = 100;

const AUTH_MAX_BYTES = 4096;

/**
 * One connection to a unix socket where D-Bus is spoken, as this process's user (EXTERNAL), without descriptors. Calls
 * do not wait for each other's replies. It is made once; when it is lost, who uses it makes another.
 */
export class Connection {
  private readonly pending = new Map<number, Pending>();
  private readonly waiting: (() => void)[] = [];
  private readonly onClosed: (() => void)[] = [];
  private received: Buffer = Buffer.alloc(0);
  private serial = 0;
  private lost: ConnectionLost | undefined;

  private constructor(
    private readonly socket: Socket,
    private readonly address: string,
    private readonly onSignal: (signal: Message) => void,
  ) {}

  /** Connects and authenticates. Throws `ConnectionLost` for a socket that is not there or does not answer within the time. */
  static async open(socketPath: string, onSignal: (signal: Message) => void, timeoutMs: number): Promise<Connection> {
    const socket = createConnection(socketPath);
    // Between the handshake's listeners and the connection's own, an error would end the process; `destroyed` tells of it.
    socket.on('error', () => undefined);
    try {
      const rest = await authenticate(socket, AbortSignal.timeout(timeoutMs));
      const connection = new Connection(socket, socketPath, onSignal);
      connection.listen(rest);
      return connection;
    } catch (error) {
      socket.destroy();
      throw new ConnectionLost(`connect to D-Bus at ${socketPath}: ${messageOf(error)}`, error);
    }
  }

  get isOpen(): boolean {
    return this.lost === undefined;
  }

  /** Calls back once the connection is lost or closed, however that happens. */
  whenClosed(callback: () => void): void {
    if (this.lost) callback();
    else this.onClosed.push(callback);
  }

  /**
   * The reply's values. Throws `RemoteError` for an error reply, `ConnectionLost` when the connection ends before one,
   * and `deadline_exceeded` when there is none within the time; the other side may still do it then.
   */
  async call(call: MethodCall, timeoutMs: number): Promise<readonly Value[]> {
    const until = performance.now() + timeoutMs;
    while (this.pending.size >= MAX_UNANSWERED && !this.lost) {
      if (!(await this.hasTurn(until - performance.now()))) throw late(call, timeoutMs);
    }
    if (this.lost) throw this.lost;
    const serial = this.nextSerial();
    const { signature = '', body = [], ...header } = call;
    const bytes = encodeMessage({ type: 'call', serial, ...header, signature, body });
    return new Promise((resolve, reject) => {
      const leftMs = Math.max(0, until - performance.now());
      const timer = setTimeout(() => this.settle(serial, p => p.reject(late(call, timeoutMs))), leftMs);
      this.pending.set(serial, {
        resolve: values => (clearTimeout(timer), resolve(values)),
        reject: error => (clearTimeout(timer), reject(error)),
      });
      this.socket.write(bytes);
    });
  }

  /** Resolves when a call has been answered, or with false when none was within the time. */
  private hasTurn(withinMs: number): Promise<boolean> {
    return new Promise(resolve => {
      const go = () => (clearTimeout(timer), resolve(true));
      const timer = setTimeout(() => {
        this.waiting.splice(this.waiting.indexOf(go), 1);
        resolve(false);
      }, withinMs);
      this.waiting.push(go);
    });
  }

  close(): void {
    this.lose('it was closed');
  }

  private listen(rest: Buffer): void {
    this.socket.on('error', error => this.lose(messageOf(error), error));
    this.socket.on('close', () => this.lose('the other side has closed it'));
    this.socket.on('data', chunk => this.take(chunk));
    this.socket.unref();
    const { destroyed, errored } = this.socket;
    if (destroyed) return this.lose(errored ? messageOf(errored) : 'the other side has closed it', errored);
    if (rest.length > 0) this.take(rest);
  }

  private take(chunk: Buffer): void {
    this.received = this.received.length === 0 ? chunk : Buffer.concat([this.received, chunk]);
    try {
      for (let next; (next = decodeMessage(this.received)) !== undefined;) {
        this.received = this.received.subarray(next.length);
        this.dispatch(next.message);
      }
    } catch (error) {
      this.lose(messageOf(error), error);
    }
  }

  private dispatch(message: Message): void {
    const { type, body, replySerial = 0, errorName = '' } = message;
    if (type === 'signal') return this.onSignal(message);
    if (type === 'call') return this.refuse(message);
    this.settle(replySerial, pending => {
      if (type === 'reply') return pending.resolve(body);
      pending.reject(new RemoteError(errorName, typeof body[0] === 'string' ? body[0] : errorName));
    });
  }

  /** Some ask everybody for a sign of life; nothing is offered here. */
  private refuse({ serial, sender, member = '' }: Message): void {
    const answer = { serial: this.nextSerial(), replySerial: serial, ...(sender ? { destination: sender } : {}) };
    const errorName = 'org.freedesktop.DBus.Error.UnknownMethod';
    const body = [`there is no method ${member} here`];
    this.socket.write(encodeMessage({ type: 'error', ...answer, errorName, signature: 's', body }));
  }

  private settle(serial: number, how: (pending: Pending) => void): void {
    const pending = this.pending.get(serial);
    if (!pending) return;
    this.pending.delete(serial);
    how(pending);
    this.waiting.shift()?.();
  }

  private lose(why: string, cause?: unknown): void {
    if (this.lost) return;
    const lost = new ConnectionLost(`the D-Bus connection to ${this.address} is gone: ${why}`, cause);
    this.lost = lost;
    this.socket.destroy();
    for (const serial of [...this.pending.keys()]) this.settle(serial, pending => pending.reject(lost));
    for (const go of this.waiting.splice(0)) go();
    for (const callback of this.onClosed.splice(0)) callback();
  }

  private nextSerial(): number {
    this.serial = this.serial === 0xffffffff ? 1 : this.serial + 1;
    return this.serial;
  }
}

function late({ member }: MethodCall, timeoutMs: number): BerthError {
  return new BerthError('deadline_exceeded', `${member} over D-Bus was not answered within ${timeoutMs / 1000} s`);
}

/** The peer knows this process's user from the kernel; EXTERNAL says which one is meant. What follows the handshake is returned. */
async function authenticate(socket: Socket, signal: AbortSignal): Promise<Buffer> {
  const uid = Buffer.from(String(process.getuid?.() ?? 0)).toString('hex');
  return new Promise((resolve, reject) => {
    let answer = '';
    const done = (settle: () => void) => {
      socket.off('data', onData).off('error', onError).off('close', onClose);
      signal.removeEventListener('abort', onAbort);
      settle();
    };
    const fail = (why: string) => done(() => reject(new Error(why)));
    const onError = (error: Error) => done(() => reject(error));
    const onClose = () => fail('it closes the connection');
    const onAbort = () => fail('it does not answer');
    const onData = (chunk: Buffer) => {
      answer += chunk.toString('latin1');
      const end = answer.indexOf('\r\n');
      if (end < 0) return answer.length > AUTH_MAX_BYTES ? fail('it speaks something else') : undefined;
      if (!answer.startsWith('OK ')) return fail(`it refuses user ${process.getuid?.() ?? 0}: ${answer.slice(0, end)}`);
      socket.write('BEGIN\r\n');
      done(() => resolve(Buffer.from(answer.slice(end + 2), 'latin1')));
    };
    socket.on('data', onData).on('error', onError).on('close', onClose);
    signal.addEventListener('abort', onAbort, { once: true });
    socket.write(`\0AUTH EXTERNAL ${uid}\r\n`);
  });
}
