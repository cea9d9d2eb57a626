import { EventEmitter, once } from 'node:events';
import { Metadata, status, type ServerWritableStream } from '@grpc/grpc-js';
import {
  OutputStream,
  type BerthServer,
  type CreateRequest,
  type LogsRequest,
  type LogsResponse,
} from '../../src/cri/generated/berth/v1/berth';
import { failure } from './fake-daemon';

export const fakeId = 'c0ffee'.padEnd(64, '0');

/**
 * One container whose command is a function of the test's. It holds the client to the contract: whoever starts it in
 * the foreground must watch it before, since what it writes goes only to those who watch.
 */
export class FakeContainer {
  request: CreateRequest | undefined;
  readonly signals: string[] = [];
  readonly watchedAtStart: string[] = [];
  private readonly events = new EventEmitter();
  private readonly watching: string[] = [];
  private logs: ServerWritableStream<LogsRequest, LogsResponse> | undefined;

  constructor(
    private readonly command: (container: FakeContainer) => Promise<number>,
    private readonly failsToStart?: { code: status; details: string; reason?: string },
  ) {}

  async out(data: string | Buffer): Promise<void> {
    await this.write(OutputStream.STDOUT, data);
  }

  async err(data: string | Buffer): Promise<void> {
    await this.write(OutputStream.STDERR, data);
  }

  /** Resolves with the next signal. */
  async signal(): Promise<string> {
    const [signal] = (await once(this.events, 'signal')) as [string];
    return signal;
  }

  handlers(): Partial<BerthServer> {
    return {
      create: call => {
        this.request = call.request;
        call.write({ created: { id: fakeId, name: 'tidy_crane' } });
        call.end();
      },
      logs: call => {
        this.logs = call;
        this.watch('logs', call);
        this.events.once('exit', () => call.end());
      },
      wait: (call, reply) => {
        this.watch('wait', call);
        this.events.once('exit', (exitCode: number) => reply(null, { exitCode, reason: '' }));
      },
      start: (_, reply) => {
        this.watchedAtStart.push(...this.watching);
        if (this.failsToStart) {
          const { code, details, reason } = this.failsToStart;
          return reply(failure(code, details, reason));
        }
        reply(null, {});
        void this.command(this).then(exitCode => this.events.emit('exit', exitCode));
      },
      kill: (call, reply) => {
        this.signals.push(call.request.signal);
        this.events.emit('signal', call.request.signal);
        reply(null, {});
      },
    };
  }

  private watch(what: string, call: { sendMetadata(metadata: Metadata): void }): void {
    // Late, as from a daemon that has to read its records first.
    setTimeout(() => {
      this.watching.push(what);
      call.sendMetadata(new Metadata());
    }, 20);
  }

  private async write(stream: OutputStream, data: string | Buffer): Promise<void> {
    const entry = { timeNs: 1_700_000_000_123_456_789n, stream, data: Buffer.from(data) };
    const room = this.logs?.write({ entries: [entry] });
    if (room === false && this.logs) await once(this.logs, 'drain');
  }
}
