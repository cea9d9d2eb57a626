import {
  Metadata,
  status,
  type handleBidiStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type UntypedHandleCall,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { Context } from '../base/context';
import { BerthError, kindOf, messageOf, type ErrorKind } from '../base/errors';
import type { Logger } from '../base/log';
import { Turns } from '../base/turns';
import { stepsOf } from './observe';

/** The one place that knows gRPC codes. */
const CODE_OF_KIND: Readonly<Record<ErrorKind, status>> = {
  invalid_argument: status.INVALID_ARGUMENT,
  not_found: status.NOT_FOUND,
  already_exists: status.ALREADY_EXISTS,
  failed_precondition: status.FAILED_PRECONDITION,
  unauthenticated: status.UNAUTHENTICATED,
  permission_denied: status.PERMISSION_DENIED,
  resource_exhausted: status.RESOURCE_EXHAUSTED,
  deadline_exceeded: status.DEADLINE_EXCEEDED,
  cancelled: status.CANCELLED,
  aborted: status.ABORTED,
  unavailable: status.UNAVAILABLE,
  unimplemented: status.UNIMPLEMENTED,
  data_loss: status.DATA_LOSS,
  internal: status.INTERNAL,
};

/** Calls slower than this are told in the log: somebody waited. Beyond what the caller has allowed, and no streams. */
const SLOW_MS = 5000;

/** Many calls may come with one read from a connection. */
const turns = new Turns();

interface Failure {
  code: status;
  details: string;
  metadata: Metadata;
}

/** Translates anything that was thrown into a gRPC status. */
function failureOf(error: unknown): Failure {
  return { code: CODE_OF_KIND[kindOf(error)], details: messageOf(error), metadata: trailersOf(error) };
}

/** `berth-reason` tells the command line which exit code a failed start has. */
function trailersOf(error: unknown): Metadata {
  const metadata = new Metadata();
  const isExec = error instanceof BerthError && 'op' in error && error.op === 'EXEC';
  if (isExec) metadata.set('berth-reason', error.kind === 'not_found' ? 'command_not_found' : 'command_not_invokable');
  return metadata;
}

/**
 * The wrapper round every unary RPC: a context that ends with the call, the log,
 * and the translation of errors. An error never leaves it: a rejected handler
 * would end the process.
 */
export function unary<Request, Response>(
  log: Logger,
  name: string,
  work: (request: Request, ctx: Context, call: ServerUnaryCall<Request, Response>) => Promise<Response> | Response,
): handleUnaryCall<Request, Response> {
  return (call, reply) => {
    const scope = begin(log, name, call);
    const run = async () => {
      await turns.next();
      return work(call.request, scope.ctx, call);
    };
    run().then(
      response => {
        scope.end();
        reply(null, response);
      },
      (error: unknown) => {
        scope.end(error);
        reply(failureOf(error));
      },
    );
  };
}

/** The wrapper round every server-streaming RPC; `send` waits while the client is slow. */
export function serverStream<Request, Response>(
  log: Logger,
  name: string,
  work: (
    request: Request,
    ctx: Context,
    send: (response: Response) => Promise<void>,
    call: ServerWritableStream<Request, Response>,
  ) => Promise<void>,
): handleServerStreamingCall<Request, Response> {
  return call => {
    const scope = begin(log, name, call);
    scope.ctx.allow(Infinity);
    finish(call, scope, async () => work(call.request, scope.ctx, sender(call, scope.ctx), call));
  };
}

/**
 * The wrapper round every RPC with streams both ways. `requests` ends when the
 * client has said all, and throws when the call ends first.
 */
export function bidiStream<Request, Response>(
  log: Logger,
  name: string,
  work: (
    requests: Requests<Request>,
    ctx: Context,
    send: (response: Response) => Promise<void>,
    call: ServerDuplexStream<Request, Response>,
  ) => Promise<void>,
): handleBidiStreamingCall<Request, Response> {
  return call => {
    const scope = begin(log, name, call);
    scope.ctx.allow(Infinity);
    // Leaving off reading must not end the call.
    const requests = call.iterator({ destroyOnReturn: false }) as AsyncIterator<Request, undefined>;
    const next = () => scope.ctx.race(requests.next());
    finish(call, scope, async () => work({ next }, scope.ctx, sender(call, scope.ctx), call));
  };
}

/** What a client says, in order. */
export interface Requests<Request> {
  next(): Promise<IteratorResult<Request, undefined>>;
}

type OutputCall<Request, Response> = ServerWritableStream<Request, Response> | ServerDuplexStream<Request, Response>;

function sender<Request, Response>(call: OutputCall<Request, Response>, ctx: Context) {
  return async (response: Response) => {
    ctx.throwIfEnded();
    if (!call.write(response)) await drained(call, ctx);
  };
}

function finish<Request, Response>(
  call: OutputCall<Request, Response>,
  scope: CallScope,
  work: () => Promise<void>,
): void {
  work().then(
    () => {
      scope.end();
      call.end();
    },
    (error: unknown) => {
      scope.end(error);
      call.emit('error', failureOf(error));
    },
  );
}

/** Resolves when a stream takes more; rejects when the call ends first. */
async function drained(call: { once(event: 'drain', then: () => void): unknown }, ctx: Context): Promise<void> {
  await ctx.race(new Promise<void>(resolve => call.once('drain', resolve)));
}

/** What a call needs from its start to its end. */
interface CallScope {
  ctx: Context;
  /** Writes the call into the log; once. */
  end(error?: unknown): void;
}

/** Opens the context of a call: it ends when the caller goes away. */
function begin(
  log: Logger,
  name: string,
  call: { metadata: Metadata; on(event: 'cancelled', then: () => void): unknown },
): CallScope {
  const gone = new AbortController();
  const startedAt = performance.now();
  let isOver = false;
  // It comes at the end of every call, too, for which nobody waits any more.
  call.on('cancelled', () => {
    if (!isOver) gone.abort();
  });
  const ctx = Context.of(log.with({ rpc: name }), { signal: gone.signal, steps: stepsOf(call.metadata) });
  return {
    ctx,
    end: error => {
      isOver = true;
      const ms = Math.round(performance.now() - startedAt);
      if (error !== undefined) {
        const isOurs = kindOf(error) === 'internal';
        ctx.log[isOurs ? 'error' : 'info'](`failed: ${messageOf(error)}`, {
          ms,
          ...(isOurs ? { stack: stackOf(error) } : {}),
        });
      } else if (ms > SLOW_MS + ctx.allowedMs) {
        ctx.log.warn('slow call', { ms, stage: ctx.stageName });
      } else {
        ctx.log.debug('done', { ms });
      }
    },
  };
}

function stackOf(error: unknown): string | undefined {
  return error instanceof Error ? error.stack : undefined;
}

/** Fills a service up: RPCs that are not built answer UNIMPLEMENTED with a sentence. */
export function complete<Service extends ServiceDefinition>(
  service: Service,
  built: Partial<Record<keyof Service, UntypedHandleCall>>,
): UntypedServiceImplementation {
  const all: UntypedServiceImplementation = {};
  for (const [key, definition] of Object.entries(service)) {
    const name = definition.path.slice(definition.path.lastIndexOf('/') + 1);
    all[key] = built[key as keyof Service] ?? refuse(name, definition.responseStream);
  }
  return all;
}

function refuse(name: string, isStream: boolean): UntypedHandleCall {
  const error = new BerthError('unimplemented', `${name} is not in this version of berth`);
  if (isStream) {
    return ((call: ServerWritableStream<unknown, unknown>) => {
      call.emit('error', failureOf(error));
    }) as UntypedHandleCall;
  }
  return ((_call: unknown, reply: (failure: Failure) => void) => reply(failureOf(error))) as UntypedHandleCall;
}
