import { writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { BerthError, errnoOf } from '../base/errors';
import { FieldWriter, readFields } from './fields';
import { DAEMON_MESSAGES, HELPER_MESSAGES, type DaemonMessage, type HelperMessage, type Shape } from './plan-ops';

const MAX_PAYLOAD = 4096;
const NAME_OF_CODE = new Map<number, keyof typeof HELPER_MESSAGES>(
  Object.entries(HELPER_MESSAGES).map(([name, shape]) => [shape.code, name as keyof typeof HELPER_MESSAGES]),
);

/** A message as it goes to a helper. */
export function encodeMessage(message: DaemonMessage): Buffer {
  const shape: Shape = DAEMON_MESSAGES[message.type];
  const out = new FieldWriter();
  out.u32(0);
  out.u32(shape.code);
  out.fields(shape, message);
  out.patchU32(0, out.length - 8);
  return Buffer.from(out.done());
}

/**
 * The first message of what came from a helper, and how many bytes it takes; undefined while more has to come, and no
 * message for one that this daemon does not know. Throws `internal` for what no helper sends.
 */
export function decodeMessage(bytes: Buffer): { message: HelperMessage | undefined; length: number } | undefined {
  if (bytes.length < 8) return undefined;
  const length = bytes.readUInt32LE(0);
  if (length > MAX_PAYLOAD) throw new BerthError('internal', `a helper sent a frame of ${length} bytes`);
  if (bytes.length < 8 + length) return undefined;
  const name = NAME_OF_CODE.get(bytes.readUInt32LE(4));
  if (name === undefined) return { message: undefined, length: 8 + length };
  const fields = readFields(HELPER_MESSAGES[name], bytes.subarray(8, 8 + length));
  return { message: { type: name, ...fields } as HelperMessage, length: 8 + length };
}

/**
 * The daemon's end of a helper's control socket. Messages arrive in order; the
 * end of the socket arrives last, once, with or without an error before it.
 */
export class ControlSocket {
  private pending: Buffer = Buffer.alloc(0);

  constructor(
    private readonly socket: Socket,
    private readonly onMessage: (message: HelperMessage) => void,
    private readonly onEnd: () => void,
    private readonly fd?: number,
  ) {
    socket.on('data', chunk => this.take(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.onEnd());
  }

  static fromFd(fd: number, onMessage: (message: HelperMessage) => void, onEnd: () => void): ControlSocket {
    return new ControlSocket(new Socket({ fd, readable: true, writable: true }), onMessage, onEnd, fd);
  }

  send(message: DaemonMessage): void {
    const frame = encodeMessage(message);
    if (!this.sendNow(frame)) this.socket.write(frame);
  }

  /** A stream that cannot be written to any more is destroyed with its last words unread; the descriptor is not. */
  private sendNow(frame: Buffer): boolean {
    if (this.fd === undefined || this.socket.destroyed) return false;
    try {
      writeSync(this.fd, frame); // a few bytes: all of them or none
      return true;
    } catch (error) {
      return errnoOf(error) !== 'EAGAIN';
    }
  }

  /** Closes once what was sent is on its way. */
  end(): void {
    this.socket.end();
  }

  close(): void {
    this.socket.destroy();
  }

  /** Lets the process end although this socket is open. */
  unref(): void {
    this.socket.unref();
  }

  private take(chunk: Buffer): void {
    this.pending = this.pending.length === 0 ? chunk : Buffer.concat([this.pending, chunk]);
    try {
      for (let next; (next = decodeMessage(this.pending)) !== undefined;) {
        this.pending = this.pending.subarray(next.length);
        if (next.message) this.onMessage(next.message);
      }
    } catch (error) {
      this.socket.destroy(error instanceof Error ? error : undefined);
    }
  }
}
