import { Metadata } from '@grpc/grpc-js';
import { BerthError } from '../base/errors';
import { attachToContainer } from '../container/attach';
import { containerByName } from '../container/find';
import { tell } from '../container/tell';
import type { AttachRequest, AttachResponse, AttachStart, BerthServer } from '../cri/generated/berth/v1/berth';
import { failureOfInput } from './berth-input';
import type { BerthParts } from './berth-service';
import { bidiStream, type Requests } from './handler';

/** Attach: a person at a container's stdio. The container with its exit code stays until the call has ended. */
export function attachRpc({ log, containers }: BerthParts) {
  return {
    attach: bidiStream<AttachRequest, AttachResponse>(log, 'Attach', async (requests, ctx, send, call) => {
      const start = await firstOf(requests);
      const container = containerByName(containers, start.container);
      using _hold = containers.holds.hold(container.record.id);
      const exited = containers.exitOf(container, ctx.signal);
      ctx.stage('attach to the container');
      const attached = await attachToContainer(containers, container, {
        stdin: start.stdin,
        stdout: true,
        stderr: true,
        onOutput: (stream, chunk) => send(stream === 'stdout' ? { stdout: chunk } : { stderr: chunk }),
        signal: ctx.signal,
      });
      tell(containers, container, 'attach');
      call.sendMetadata(new Metadata());
      await send({ attached: { tty: container.config.tty } });
      ctx.stage('wait for the container to exit');
      await Promise.race([attached.ended, failureOfInput(requests, attached)]);
      await exited;
      ctx.throwIfEnded();
      await send({ exitCode: container.record.exitCode });
    }),
  } satisfies Partial<BerthServer>;
}

async function firstOf(requests: Requests<AttachRequest>): Promise<AttachStart> {
  const { value } = await requests.next();
  if (value?.start) return value.start;
  throw new BerthError('invalid_argument', 'the first message of an attach is its start');
}
