import { hostname } from 'node:os';
import type { Logger } from '../../base/log';
import type { CallTrace, Traces, TracesOptions } from '../traces';
import { Call } from './call';
import { Exporter } from './exporter';
import { attribute, exportRequest } from './span';
import { callerSpan } from './trace-context';

/** Traces of calls to a collector that takes OTLP over HTTP as JSON, as all do on port 4318. */
export class OtlpTraces implements Traces {
  private readonly exporter: Exporter;

  constructor(
    private readonly options: TracesOptions,
    version: string,
    log: Logger,
  ) {
    const resource = [
      attribute('service.name', 'berthd'),
      attribute('service.version', version),
      attribute('host.name', hostname()),
      attribute('process.pid', process.pid),
    ];
    this.exporter = new Exporter(tracesUrl(options.endpoint), spans => exportRequest(spans, resource, version), log);
  }

  /** The caller decides about its trace; of those that begin here some are taken. */
  begin(service: string, method: string, traceparent?: string, tracestate?: string): CallTrace | undefined {
    const caller = callerSpan(traceparent, tracestate);
    const isWanted = caller ? caller.isSampled : Math.random() * 1_000_000 < this.options.samplesPerMillion;
    return isWanted ? new Call(service, method, caller, spans => this.exporter.add(spans)) : undefined;
  }

  async close(): Promise<void> {
    await this.exporter.close();
  }
}

/** The base of a collector, or the very path. */
function tracesUrl(endpoint: string): URL {
  const url = new URL(endpoint);
  if (url.pathname === '/') url.pathname = '/v1/traces';
  return url;
}
