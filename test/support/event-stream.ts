import assert from 'node:assert/strict';
import type { ClientReadableStream, ServiceError } from '@grpc/grpc-js';
import type { ContainerStatus, CriClient } from './cri-client';

/** An event of GetContainerEvents, as the independent codec decodes it. */
export interface CriEvent {
  containerId: string;
  containerEventType: string;
  createdAt: string;
  podSandboxStatus: { id: string; state: string; metadata: { name: string; uid: string } } | null;
  containersStatuses: ContainerStatus[];
}

/** A subscriber of GetContainerEvents that keeps what it hears. */
export class EventStream implements Disposable {
  readonly heard: CriEvent[] = [];
  /** How the stream ended, once it has. */
  failure: ServiceError | undefined;
  private wake: () => void = () => undefined;

  private constructor(private readonly call: ClientReadableStream<unknown>) {
    call.on('data', (event: CriEvent) => {
      this.heard.push(event);
      this.wake();
    });
    call.on('error', (error: ServiceError) => {
      this.failure = error;
      this.wake();
    });
  }

  /** Resolves once nothing can be missed any more. */
  static async open(client: CriClient): Promise<EventStream> {
    const call = client.open('GetContainerEvents', {});
    const stream = new EventStream(call);
    await new Promise<void>((resolve, reject) => {
      call.once('metadata', () => resolve());
      call.once('error', reject);
    });
    return stream;
  }

  /** All that was heard, once it has so many events. */
  async first(count: number): Promise<CriEvent[]> {
    while (this.heard.length < count) {
      assert.equal(this.failure, undefined, `heard ${this.heard.length} of ${count} events`);
      await new Promise<void>(resolve => (this.wake = resolve));
    }
    return this.heard.slice(0, count);
  }

  async end(): Promise<ServiceError> {
    while (this.failure === undefined) await new Promise<void>(resolve => (this.wake = resolve));
    return this.failure;
  }

  [Symbol.dispose](): void {
    this.call.cancel();
  }
}

/** `CREATED 0123456789ab` for each, with names instead of ids where they are given. */
export function told(events: readonly CriEvent[], names: Readonly<Record<string, string>>): string[] {
  return events.map(({ containerEventType, containerId }) => {
    const what = /^CONTAINER_(.*)_EVENT$/.exec(containerEventType)?.[1] ?? containerEventType;
    return `${names[containerId] ?? containerId} ${what}`;
  });
}
