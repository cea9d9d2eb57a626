import { closeSync, openSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { BerthError, errnoOf } from '../base/errors';
import { decodeMessage, encodeMessage } from '../native/control';

/** As descriptors of a process are numbered. */
export const STDIO = { stdin: 0, stdout: 1, stderr: 2 } as const;

/** Its answer comes at once, unless it hangs on a dead file system. */
const ANSWER_WITHIN_MS = 10_000;

/**
 * Connects to one stream of a container by its monitor, whose state directory is given. Of output it brings what is
 * written from now on. A connection that is reset (ECONNRESET) did not take output in time and was dropped; any other end is
 * the stream's own.
 */
export async function attachStream(stateDir: string, stream: keyof typeof STDIO): Promise<Socket> {
  const socket = await connectTo(stateDir);
  const timer = setTimeout(() => socket.destroy(), ANSWER_WITHIN_MS);
  try {
    socket.write(encodeMessage({ type: 'ATTACH', stream: STDIO[stream] }));
    const errno = await answer(socket);
    if (errno !== 0) throw refusal(stream, errno);
    // See `end_in_order` of the helper's attach.c.
    if (stream !== 'stdin') socket.write(Buffer.alloc(1));
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
