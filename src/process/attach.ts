import { closeSync, openSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { BerthError, errnoOf } from '../base/errors';
import { decodeMessage, encodeMessage } from '../native/control';

/** As descriptors of a process are numbered. */
const STDIO = { stdin: 0, stdout: 1, stderr: 2 } as const;

/** Its answer comes at once, unless it hangs on a dead file system. */
const ANSWER_WITHIN_MS = 10_000;

/** The container's stdin, by its monitor, whose state directory is given. */
export async function attachInput(stateDir: string): Promise<Socket> {
  return (await attachStream(stateDir, 'stdin')).resume();
}

/** One of the container's outputs, from now on. */
export interface AttachedOutput {
  /** Settles at the end: true when that is the output's own, false when the rest of it was cut off. */
  ended: Promise<boolean>;
  close(): void;
}

/**
 * Hands an output to `deliver` as it comes; a returned promise holds it back. The monitor waits a second for it, and goes
 * on without this client then.
 */
export async function attachOutput(
  stateDir: string,
  stream: 'stdout' | 'stderr',
  deliver: (bytes: Buffer) => void | Promise<void>,
): Promise<AttachedOutput> {
  const socket = await attachStream(stateDir, stream);
  const chunks = new Chunks();
  let pending: Promise<void> = Promise.resolve();
  const take = (bytes: Buffer) => {
    const delivered = [...chunks.take(bytes)].map(deliver).filter(one => one instanceof Promise);
    if (delivered.length === 0) return;
    socket.pause();
    pending = Promise.allSettled(delivered).then(() => void socket.resume());
  };
  const closed = new Promise<void>(resolve => socket.once('close', () => resolve()));
  socket.on('data', take).resume();
  const ended = closed.then(() => pending).then(() => chunks.areWhole);
  return { ended, close: () => socket.destroy() };
}

/** Takes lengths out of what a monitor sends: chunks of a u32 length, little endian, and so many bytes; an empty one ends. */
class Chunks {
  areWhole = false;
  private header: Buffer = Buffer.alloc(0);
  private left = 0;

  *take(bytes: Buffer): Generator<Buffer> {
    for (let rest = bytes; rest.length > 0;) {
      if (this.left > 0) {
        const piece = rest.subarray(0, this.left);
        rest = rest.subarray(piece.length);
        this.left -= piece.length;
        yield piece;
        continue;
      }
      const wanted = 4 - this.header.length;
      this.header = Buffer.concat([this.header, rest.subarray(0, wanted)]);
      rest = rest.subarray(wanted);
      if (this.header.length < 4) return;
      this.left = this.header.readUInt32LE(0);
      this.header = Buffer.alloc(0);
      this.areWhole = this.left === 0;
    }
  }
}

async function attachStream(stateDir: string, stream: keyof typeof STDIO): Promise<Socket> {
  const socket = await connectTo(stateDir);
  const timer = setTimeout(() => socket.destroy(), ANSWER_WITHIN_MS);
  try {
    socket.write(encodeMessage({ type: 'ATTACH', stream: STDIO[stream] }));
    const errno = await answer(socket);
    if (errno !== 0) throw refusal(stream, errno);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function connectTo(stateDir: string): Promise<Socket> {
  const gone = () => new BerthError('failed_precondition', 'the container has exited');
  let dirFd: number;
  try {
    dirFd = openSync(stateDir, 'r');
  } catch (error) {
    throw errnoOf(error) === 'ENOENT' ? gone() : error;
  }
  try {
    const socket = connect({ path: `/proc/self/fd/${dirFd}/sock` });
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return socket.on('error', () => socket.destroy());
  } catch (error) {
    throw ['ENOENT', 'ECONNREFUSED'].includes(errnoOf(error) ?? '') ? gone() : error;
  } finally {
    closeSync(dirFd);
  }
}

/** Reads what a monitor tells whoever connects, up to its answer; what follows that is the stream, and stays in the socket. */
async function answer(socket: Socket): Promise<number> {
  let pending: Buffer = Buffer.alloc(0);
  return new Promise((resolve, reject) => {
    const onClose = () => reject(new BerthError('unavailable', "the container's monitor does not take another client"));
    const onData = (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk]);
      for (let next; (next = decodeMessage(pending)) !== undefined;) {
        pending = pending.subarray(next.length);
        if (next.message?.type !== 'ATTACHED') continue;
        socket.pause().off('data', onData).off('close', onClose);
        if (pending.length > 0) socket.unshift(pending);
        resolve(next.message.errno);
        return;
      }
    };
    socket.on('data', onData).once('close', onClose);
  });
}

function refusal(stream: string, errno: number): BerthError {
  const name = getSystemErrorName(-errno);
  if (name === 'EUSERS') {
    return new BerthError('resource_exhausted', 'attach: as many clients as it can have are attached to the container');
  }
  if (name === 'EPIPE') return new BerthError('failed_precondition', `attach: the container has no open ${stream}`);
  return new BerthError('internal', `attach ${stream}: ${name}`);
}
