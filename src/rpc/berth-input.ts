import type { Writable } from 'node:stream';
import { BerthError } from '../base/errors';
import type { TerminalSize } from '../cri/generated/berth/v1/berth';
import { signalOf } from './berth-containers';
import type { Requests } from './handler';

/** So much stdin is taken before the command reads it; signals behind it still come through. */
const STDIN_BUFFER_BYTES = 1024 * 1024;

/** What clients of Exec and Attach say after the start. */
interface InputRequest {
  start?: object | undefined;
  stdin?: Buffer | undefined;
  stdinClose?: object | undefined;
  resize?: TerminalSize | undefined;
  signal?: string | undefined;
}

interface Receiver {
  stdin: Writable | undefined;
  resize(size: TerminalSize): void;
  kill?(signal: number): void;
}

/** Hands on what the client says. Settles only when that went wrong: the end of the input is not the end of the command. */
export async function failureOfInput(requests: Requests<InputRequest>, to: Receiver): Promise<never> {
  for (;;) {
    const { value: request, done } = await requests.next();
    if (done) break;
    if (request.start) throw new BerthError('invalid_argument', 'a call is started once');
    if (request.signal !== undefined) to.kill?.(signalOf(request.signal));
    if (request.resize) to.resize(request.resize);
    if (request.stdin && to.stdin) await write(to.stdin, request.stdin);
    if (request.stdinClose) to.stdin?.end();
  }
  to.stdin?.end();
  return new Promise<never>(() => undefined);
}

async function write(stdin: Writable, data: Buffer): Promise<void> {
  if (stdin.destroyed || stdin.writableEnded) return;
  stdin.write(data);
  if (stdin.writableLength <= STDIN_BUFFER_BYTES) return;
  await new Promise<void>(resolve => {
    const done = () => {
      stdin.off('drain', done).off('close', done);
      resolve();
    };
    stdin.on('drain', done).on('close', done);
  });
}
