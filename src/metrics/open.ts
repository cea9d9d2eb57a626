import type { Logger } from '../base/log';
import type { MetricsEndpoint } from './endpoint';
import { noMetrics, type Metrics, type Readings } from './metrics';

/** The metrics of a daemon, served on `address`; with `''` nothing is counted and nothing listens. */
export async function openMetrics(
  address: string,
  version: string,
  readings: Readings,
  log: Logger,
): Promise<{ metrics: Metrics; isOn: boolean; listen(): Promise<MetricsEndpoint | undefined> }> {
  if (address === '') return { metrics: noMetrics, isOn: false, listen: async () => undefined };
  const [{ PrometheusMetrics }, { serveMetrics }] = await Promise.all([
    import('./prometheus.js'),
    import('./endpoint.js'),
  ]);
  const metrics = new PrometheusMetrics(version, readings);
  return { metrics, isOn: true, listen: () => serveMetrics(metrics, address, log) };
}
