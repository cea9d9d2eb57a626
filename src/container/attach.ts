import type { Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { BerthError, errnoOf } from '../base/errors';
import { attachStream } from '../process/attach';
import type { TerminalSize } from '../process/exec';
import type { Container, Containers } from './containers';

export interface AttachRequest {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  /** A returned promise holds the stream back; for more than about a second it is cut off then. */
  onOutput: (stream: 'stdout' | 'stderr', chunk: Buffer) => void | Promise<void>;
  /** Detaches. */
  signal: AbortSignal;
}

export interface Attached {
  /** Absent unless asked for, and when the container was made without one. */
  stdin: Writable | undefined;
  /** Settles once all of the container's output was handed on, or after detaching; rejects when the client was too slow. */
  ended: Promise<void>;
  resize(size: TerminalSize): void;
}

/**
 * Attaches to a container that is created or runs. Its output comes from here on; what it wrote before is in its log. Any
 * number of clients may be attached, and the container waits for none of them for long.
 */
export async function attachToContainer(
  containers: Containers,
  container: Container,
  request: AttachRequest,
): Promise<Attached> {
  const { record, config, monitor } = container;
  if (!monitor || (record.state !== 'running' && record.state !== 'created')) {
    throw new BerthError(
      'failed_precondition',
      `container ${record.id} is ${record.state}: there is nothing to attach to`,
    );
  }
  const { stateDir } = containers.paths(record.id);
  const wanted = {
    stdin: request.stdin && config.stdin,
    stdout: request.stdout,
    stderr: request.stderr && !config.tty,
  };
  const opened: Socket[] = [];
  const open = async (stream: 'stdin' | 'stdout' | 'stderr') => {
    if (!wanted[stream]) return undefined;
    const socket = await attachStream(stateDir, stream);
    opened.push(socket);
    return socket;
  };
  try {
    const stdin = await open('stdin');
    const outputs = [
      [await open('stdout'), 'stdout'],
      [await open('stderr'), 'stderr'],
    ] as const;
    const detach = () => opened.forEach(socket => socket.destroy());
    request.signal.addEventListener('abort', detach, { once: true });
    if (request.signal.aborted) detach();
    stdin?.resume();
    const ends = outputs.flatMap(([socket, stream]) =>
      socket ? [outputOf(socket, chunk => request.onOutput(stream, chunk), request.signal)] : [],
    );
    const ended = Promise.all(ends.length > 0 ? ends : [closed(stdin)]).then(() => {
      stdin?.destroy();
      request.signal.removeEventListener('abort', detach);
    });
    return { stdin, ended, resize: size => monitor.resize(size) };
  } catch (error) {
    opened.forEach(socket => socket.destroy());
    throw error;
  }
}

async function closed(socket: Socket | undefined): Promise<void> {
  if (socket && !socket.destroyed) await new Promise<void>(resolve => socket.once('close', () => resolve()));
}

/** Hands a stream on to its end. */
async function outputOf(
  socket: Socket,
  deliver: (chunk: Buffer) => void | Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  let failure: unknown;
  let pending: Promise<void> = Promise.resolve();
  socket.on('error', error => (failure = error));
  socket.on('data', (chunk: Buffer) => {
    const delivered = deliver(chunk);
    if (!(delivered instanceof Promise)) return;
    socket.pause();
    pending = delivered.then(
      () => void socket.resume(),
      () => void socket.resume(),
    );
  });
  await closed(socket);
  await pending;
  if (errnoOf(failure) !== 'ECONNRESET' || signal.aborted) return;
  throw new BerthError(
    'aborted',
    'attach: output was not taken in time, so that it was cut off; the container runs on',
  );
}
