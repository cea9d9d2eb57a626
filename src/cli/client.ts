import { Client, credentials, type ClientDuplexStream, type MethodDefinition, type ServiceError } from '@grpc/grpc-js';
import { BerthError } from '../base/errors';
import { fromStatus, fromStream } from './errors';

/** A call that is under way. `watching` ends with the first sign of the daemon: it has the call and watches. */
export interface Asked<Reply> {
  watching: Promise<void>;
  reply: Promise<Reply>;
}

/** A stream of replies, read once. `watching` as for `Asked`. */
export interface Replies<Reply> extends AsyncIterable<Reply> {
  watching: Promise<void>;
}

/** The replies to a conversation, and what it takes to go on with it. */
export interface Conversation<Request, Reply> extends Replies<Reply> {
  /** Resolves when there is room for more; once the call has ended, what is said is dropped. */
  say(request: Request): Promise<void>;
  /** That was all. */
  end(): void;
  /** Breaks the call off: whoever waits for a reply is refused it. */
  cancel(): void;
}

/** The daemon behind one socket. Nothing is dialled before the first call. All failures are `BerthError`s. */
export class Daemon {
  private readonly client: Client;

  constructor(private readonly socket: string) {
    this.client = new Client(`unix:${socket}`, credentials.createInsecure(), {
      // A list of thousands of containers is longer than the default of 4 MB; the daemon is root's own.
      'grpc.max_receive_message_length': -1,
      'grpc.enable_http_proxy': 0,
      'grpc.service_config_disable_resolution': 1,
      // A call that was sent twice could make two containers.
      'grpc.enable_retries': 0,
    });
  }

  async ask<Request, Reply>(method: MethodDefinition<Request, Reply>, request: Request): Promise<Reply> {
    return await this.begin(method, request).reply;
  }

  begin<Request, Reply>(method: MethodDefinition<Request, Reply>, request: Request): Asked<Reply> {
    const watching = deferred<void>();
    const reply = deferred<Reply>();
    const { path, requestSerialize, responseDeserialize } = method;
    const call = this.client.makeUnaryRequest<Request, Reply>(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      (status, value) => {
        if (status === null && value !== undefined) return reply.resolve(value);
        const error = this.translate(status);
        watching.reject(error);
        reply.reject(error);
      },
    );
    call.on('metadata', () => watching.resolve());
    return { watching: watching.promise, reply: reply.promise };
  }

  open<Request, Reply>(method: MethodDefinition<Request, Reply>, request: Request): Replies<Reply> {
    const { path, requestSerialize, responseDeserialize } = method;
    return this.replies<Reply>(
      this.client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request),
    );
  }

  converse<Request, Reply>(method: MethodDefinition<Request, Reply>): Conversation<Request, Reply> {
    const { path, requestSerialize, responseDeserialize } = method;
    const call = this.client.makeBidiStreamRequest<Request, Reply>(path, requestSerialize, responseDeserialize);
    return Object.assign(this.replies(call), {
      say: (request: Request) => say(call, request),
      end: () => void call.end(),
      cancel: () => call.cancel(),
    });
  }

  private replies<Reply>(call: ReadableCall<Reply>): Replies<Reply> {
    const watching = deferred<void>();
    // The call may fail before anybody iterates: grpc-js emits the error once and does not destroy the stream.
    let failed: unknown;
    call.on('metadata', () => watching.resolve());
    call.on('error', error => {
      failed ??= this.translate(error);
      watching.reject(failed);
    });

    const translate = (error: unknown) => this.translate(error);
    async function* iterate(): AsyncGenerator<Reply, void> {
      if (failed !== undefined) throw failed;
      try {
        for await (const reply of call) yield reply;
      } catch (error) {
        throw translate(error);
      } finally {
        call.cancel();
      }
    }
    return { watching: watching.promise, [Symbol.asyncIterator]: iterate };
  }

  private translate(error: unknown): BerthError {
    return isStatus(error) ? fromStatus(error, this.socket) : fromStream(error, this.socket);
  }
}

function isStatus(error: unknown): error is ServiceError {
  return error instanceof Error && 'details' in error && 'metadata' in error;
}

interface ReadableCall<Reply> extends AsyncIterable<Reply> {
  on(event: 'metadata', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  cancel(): void;
}

async function say<Request>(call: ClientDuplexStream<Request, unknown>, request: Request): Promise<void> {
  await new Promise<void>(resolve => call.write(request, () => resolve()));
}

interface Deferred<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(reason: unknown): void;
}

/** A promise to be settled from outside; it is no unhandled rejection when nobody waits for it. */
function deferred<T>(): Deferred<T> {
  const made: Partial<Deferred<T>> = {};
  made.promise = new Promise<T>((resolve, reject) => Object.assign(made, { resolve, reject }));
  made.promise.catch(() => undefined);
  return made as Deferred<T>;
}

/** The socket path of `unix:///run/berth/berth.sock` or a bare absolute path. */
export function socketOf(host: string): string {
  const path = host.replace(/^unix:(\/\/)?/, '');
  if (path.startsWith('/')) return path;
  throw new BerthError('invalid_argument', `host "${host}" is not a unix socket`, {
    hint: 'give it as unix:///run/berth/berth.sock',
  });
}
