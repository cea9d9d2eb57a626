import { writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { BerthError, errnoOf } from '../base/errors';
import { FieldWriter, readFields } from './fields';
import { DAEMON_MESSAGES, HELPER_MESSAGES, type DaemonMessage, type HelperMessage, type Shape } from './plan-ops';

const MAX_PAYLOAD = 4096;
const NAME_OF_CODE = new Map<number, keyof typeof HELPER_MESSAGES>(
  Object.entries(HELPER_MESSAGES).map(([name, shape]) => [shape.code, name as keyof typeof HELPER_MESSAGES]),
);

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
    const shape: Shape = DAEMON_MESSAGES[message.type];
    const out = new FieldWriter();
    out.u32(0);
    out.u32(shape.code);
    out.fields(shape, message);
    out.patchU32(0, out.length - 8);
    if (!this.sendNow(out.done())) this.socket.write(Buffer.from(out.done()));
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
    while (this.pending.length >= 8) {
      const length = this.pending.readUInt32LE(0);
      if (length > MAX_PAYLOAD) {
        this.socket.destroy(new BerthError('internal', `a helper sent a frame of ${length} bytes`));
        return;
      }
      if (this.pending.length < 8 + length) return;
      const name = NAME_OF_CODE.get(this.pending.readUInt32LE(4));
      const payload = this.pending.subarray(8, 8 + length);
      this.pending = this.pending.subarray(8 + length);
      if (name === undefined) continue;
      this.onMessage({ type: name, ...readFields(HELPER_MESSAGES[name], payload) } as HelperMessage);
    }
  }
}
