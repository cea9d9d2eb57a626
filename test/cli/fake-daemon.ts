import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server as NetServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Metadata, Server, ServerCredentials, status, type StatusObject } from '@grpc/grpc-js';
import { BerthService, type BerthServer } from '../../src/cri/generated/berth/v1/berth';
import { ContainersService, type ContainersServer } from '../../src/cri/generated/berth/v1/containers';
import { StatsService, type StatsServer } from '../../src/cri/generated/berth/v1/stats';

/** A gRPC server on a unix socket that answers what a test gives it, and UNIMPLEMENTED for the rest. */
export class FakeDaemon implements AsyncDisposable {
  private constructor(
    private readonly server: Server,
    private readonly folder: string,
    readonly socket: string,
  ) {}

  static async start(handlers: Partial<BerthServer>, stats: Partial<StatsServer> = {}): Promise<FakeDaemon> {
    const folder = mkdtempSync(join(tmpdir(), 'berth-cli-'));
    const socket = join(folder, 'berth.sock');
    const server = new Server();
    server.addService(BerthService, handlers as BerthServer);
    const volumes: Partial<ContainersServer> = { listVolumes: (_, reply) => reply(null, { volumes: [] }) };
    server.addService(ContainersService, volumes as ContainersServer);
    server.addService(StatsService, stats as StatsServer);
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), error =>
        error ? reject(error) : resolve(),
      );
    });
    return new FakeDaemon(server, folder, socket);
  }

  /** Ends all calls, as a daemon does that is told to end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.server.forceShutdown();
    rmSync(this.folder, { recursive: true, force: true });
    await Promise.resolve();
  }
}

/** A socket in front of a daemon's, which can be cut, as the kernel does it to the sockets of a process that is killed. */
export class Wire implements AsyncDisposable {
  private readonly ends = new Set<Socket>();

  private constructor(
    private readonly server: NetServer,
    readonly socket: string,
  ) {}

  static async to(daemon: FakeDaemon): Promise<Wire> {
    const wire = new Wire(createServer(), `${daemon.socket}.wire`);
    wire.server.on('connection', near => {
      const far = connect(daemon.socket);
      for (const end of [near, far]) wire.ends.add(end.on('error', () => undefined));
      near.pipe(far).pipe(near);
    });
    wire.server.listen(wire.socket);
    await once(wire.server, 'listening');
    return wire;
  }

  cut(): void {
    for (const end of this.ends) end.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise(resolve => this.server.close(resolve));
  }
}

/** An error as the daemon's service sends it. */
export function failure(code: status, details: string, reason?: string): Partial<StatusObject> {
  const metadata = new Metadata();
  if (reason !== undefined) metadata.set('berth-reason', reason);
  return { code, details, metadata };
}
