import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

/** A span as a collector gets it. */
export interface CollectedSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  traceState?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: { stringValue?: string; intValue?: string } }[];
  status: { code: number; message?: string };
}

interface ExportRequest {
  resourceSpans: {
    resource: { attributes: CollectedSpan['attributes'] };
    scopeSpans: { scope: { name: string; version: string }; spans: CollectedSpan[] }[];
  }[];
}

/** Takes traces as OTLP over HTTP in JSON, on loopback. */
export class Collector implements AsyncDisposable {
  readonly spans: CollectedSpan[] = [];
  readonly requests: { path: string; type: string; body: ExportRequest }[] = [];
  /** What it answers with; 0 is nothing, for ever. */
  status = 200;
  private readonly server: Server;
  private wake: () => void = () => undefined;

  private constructor() {
    this.server = createServer((request, response) => {
      void this.take(request).then(() => {
        if (this.status !== 0) response.writeHead(this.status, { 'content-type': 'application/json' }).end('{}');
      });
    });
  }

  static async start(port = 0): Promise<Collector> {
    const collector = new Collector();
    collector.server.listen(port, '127.0.0.1');
    await once(collector.server, 'listening');
    return collector;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Resolves with the spans that fit, once there are so many. */
  async collected(count: number, fits: (span: CollectedSpan) => boolean = () => true): Promise<CollectedSpan[]> {
    for (;;) {
      const found = this.spans.filter(fits);
      if (found.length >= count) return found;
      await new Promise<void>(resolve => (this.wake = resolve));
    }
  }

  /** Resolves once it was asked so many times, whatever it answered. */
  async asked(times: number): Promise<void> {
    while (this.requests.length < times) await new Promise<void>(resolve => (this.wake = resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.close();
    this.server.closeAllConnections();
    await Promise.resolve();
  }

  private async take(request: IncomingMessage): Promise<void> {
    const body = JSON.parse(await text(request)) as ExportRequest;
    this.requests.push({ path: request.url ?? '', type: request.headers['content-type'] ?? '', body });
    if (this.status === 200) {
      this.spans.push(...body.resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)));
    }
    this.wake();
  }
}

/** The value of an attribute of a span. */
export function valueOf({ attributes }: Pick<CollectedSpan, 'attributes'>, wanted: string): string | undefined {
  const value = attributes.find(({ key }) => key === wanted)?.value;
  return value?.stringValue ?? value?.intValue;
}
