import type { Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { BerthError } from '../base/errors';
import { Rollback } from '../base/rollback';
import { attachInput, attachOutput, type AttachedOutput } from '../process/attach';
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
  await using undo = new Rollback(containers.log);
  const stdin =
    request.stdin && config.stdin
      ? await undo.step(
          'attach stdin',
          () => attachInput(stateDir),
          socket => socket?.destroy(),
        )
      : undefined;
  const outputs: AttachedOutput[] = [];
  for (const stream of ['stdout', 'stderr'] as const) {
    if (!request[stream] || (stream === 'stderr' && config.tty)) continue;
    const attach = () => attachOutput(stateDir, stream, chunk => request.onOutput(stream, chunk));
    outputs.push(await undo.step(`attach ${stream}`, attach, output => output?.close()));
  }
  undo.commit();
  const detach = () => {
    stdin?.destroy();
    for (const output of outputs) output.close();
  };
  request.signal.addEventListener('abort', detach, { once: true });
  if (request.signal.aborted) detach();
  const ended = endOf(stdin, outputs, request.signal).finally(() => {
    stdin?.destroy();
    request.signal.removeEventListener('abort', detach);
  });
  return { stdin, ended, resize: size => monitor.resize(size) };
}

/** Of the outputs, or of stdin where nothing else is attached. */
async function endOf(
  stdin: Socket | undefined,
  outputs: readonly AttachedOutput[],
  signal: AbortSignal,
): Promise<void> {
  if (outputs.length === 0 && stdin && !stdin.destroyed) {
    await new Promise<void>(resolve => stdin.once('close', () => resolve()));
  }
  const whole = await Promise.all(outputs.map(({ ended }) => ended));
  if (whole.every(Boolean) || signal.aborted) return;
  throw new BerthError('aborted', 'attach: output was not taken in time, so that the rest of it was cut off');
}
