import { chmod, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { Server, ServerCredentials, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { BerthError, errnoOf, messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import { acceptEncoded } from './encoded';
import { observing, type Observers } from './observe';

/** A request may be this big: the CRI's own clients allow as much. grpc-js's default is 4 MiB. */
const MAX_RECEIVE_BYTES = 16 * 1024 * 1024;
/** Two streams of ExecSync at their limit, and what is around them. */
const MAX_SEND_BYTES = 33 * 1024 * 1024;
/** After this long, calls that have not ended at a shutdown are cut off. */
const SHUTDOWN_MS = 3000;

export interface Service {
  definition: ServiceDefinition;
  implementation: UntypedServiceImplementation;
}

/**
 * A gRPC server on one unix socket that only root can use. A socket file that
 * nobody answers on is a dead daemon's and is replaced; one that answers is
 * another daemon's and is an error.
 */
export async function serve(
  path: string,
  services: readonly Service[],
  log: Logger,
  observers: Observers = {},
): Promise<RpcServer> {
  await removeStale(path);
  const definitions = services.map(({ definition }) => definition);
  const server = new Server({
    'grpc.max_receive_message_length': MAX_RECEIVE_BYTES,
    'grpc.max_send_message_length': MAX_SEND_BYTES,
    // Without anybody who wants to know, calls go through nothing.
    interceptors: observers.metrics || observers.traces ? [observing(observers, definitions)] : [],
  });
  for (const { definition, implementation } of services) server.addService(acceptEncoded(definition), implementation);
  await bind(server, path);
  log.info('listening', { socket: path });
  return new RpcServer(server, path);
}

export class RpcServer {
  constructor(
    private readonly server: Server,
    readonly path: string,
  ) {}

  /** Takes no new calls, waits a bounded time for those under way, then cuts them off; removes the socket. */
  async close(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const graceful = new Promise<void>(resolve => this.server.tryShutdown(() => resolve()));
    const late = new Promise<void>(resolve => (timer = setTimeout(resolve, SHUTDOWN_MS)));
    await Promise.race([graceful, late]);
    clearTimeout(timer);
    this.server.forceShutdown();
    await rm(this.path, { force: true });
  }
}

async function bind(server: Server, path: string): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), error =>
        error ? reject(error) : resolve(),
      );
    });
  } catch (error) {
    throw new BerthError('internal', `listen on ${path}: ${messageOf(error)}`, { cause: error });
  }
  await chmod(path, 0o660);
}

async function removeStale(path: string): Promise<void> {
  const answer = await new Promise<string | undefined>(resolve => {
    const probe = connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve('answers');
    });
    probe.once('error', error => resolve(errnoOf(error)));
  });
  if (answer === 'answers') {
    throw new BerthError('already_exists', `another daemon answers on ${path}`, {
      hint: 'stop it first, or give this one another --state directory',
    });
  }
  if (answer === 'ECONNREFUSED') await rm(path, { force: true });
}
