import { Metadata } from '@grpc/grpc-js';
import { BerthError } from '../base/errors';
import type { Container } from '../container/containers';
import { containerByName } from '../container/find';
import type { LogRecord } from '../container/log-records';
import { readLog, type LogRange } from '../container/logs';
import { OutputStream, type BerthServer, type LogEntry, type LogsRequest } from '../cri/generated/berth/v1/berth';
import { nameOf } from './berth-containers';
import type { BerthParts } from './berth-service';
import { serverStream, unary } from './handler';

/**
 * The RPCs that watch a container. Their initial metadata says that nothing
 * will be missed from now on; a container with `auto_remove` stays until they
 * have ended.
 */
export function logRpcs({ log, containers }: BerthParts) {
  return {
    wait: unary(log, 'Wait', async ({ container: text }, ctx, call) => {
      const container = containerByName(containers, text);
      using _hold = containers.holds.hold(container.record.id);
      const exited = containers.exitOf(container, ctx.signal);
      call.sendMetadata(new Metadata());
      ctx.stage('wait for the container to exit');
      ctx.allow(Infinity);
      await exited;
      ctx.throwIfEnded();
      const { exitCode, reason } = container.record;
      return { exitCode, reason };
    }),
    logs: serverStream(log, 'Logs', async (request, ctx, send, call) => {
      const container = containerByName(containers, request.container);
      const range = rangeOf(request);
      const path = logPathOf(container);
      using _hold = containers.holds.hold(container.record.id);
      const follow = request.follow && {
        ended: containers.exitOf(container, ctx.signal),
        signal: ctx.signal,
        onWatching: () => call.sendMetadata(new Metadata()),
      };
      ctx.stage('send the log');
      for await (const records of readLog(path, range, follow || undefined))
        await send({ entries: records.map(toEntry) });
    }),
  } satisfies Partial<BerthServer>;
}

function rangeOf({ tail, sinceNs }: LogsRequest): LogRange {
  if (tail !== undefined && tail < 0n) throw new BerthError('invalid_argument', `tail ${tail} is negative`);
  // More lines than a file can have are all.
  return { tail: tail === undefined || tail > 2n ** 50n ? undefined : Number(tail), sinceNs };
}

function logPathOf(container: Container): string {
  const { logPath } = container.record;
  if (logPath !== '') return logPath;
  throw new BerthError(
    'failed_precondition',
    `container ${nameOf(container)} has no log: it was created without a log path`,
  );
}

function toEntry({ timeNs, stream, data }: LogRecord): LogEntry {
  return { timeNs, stream: stream === 'stdout' ? OutputStream.STDOUT : OutputStream.STDERR, data };
}
