import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import type { Metrics, Readings } from './metrics';

/** The metrics as Prometheus reads them. Loaded only where there is an endpoint: the library takes its time. */
export class PrometheusMetrics implements Metrics {
  private readonly registry = new Registry();
  private readonly registers = [this.registry];

  private readonly running = new Gauge({
    name: 'berth_pulls_running',
    help: 'Pulls, loads and imports under way.',
    registers: this.registers,
  });
  private readonly pulls = new Counter({
    name: 'berth_pulls_total',
    help: 'Pulls, loads and imports that have ended.',
    labelNames: ['operation', 'outcome'],
    registers: this.registers,
  });
  private readonly pullSeconds = new Histogram({
    name: 'berth_pull_seconds',
    help: 'How long those that succeeded took.',
    labelNames: ['operation'],
    buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800],
    registers: this.registers,
  });
  private readonly pulledBytes = new Counter({
    name: 'berth_pulled_bytes_total',
    help: 'Compressed bytes of layers that came from registries.',
    registers: this.registers,
  });
  private readonly layers = new Counter({
    name: 'berth_layers_unpacked_total',
    help: 'Layers that were unpacked.',
    registers: this.registers,
  });
  private readonly findings = new Counter({
    name: 'berth_verify_findings_total',
    help: 'What checks of the store have found.',
    labelNames: ['kind'],
    registers: this.registers,
  });
  private readonly rpcs = new Histogram({
    name: 'berth_rpc_seconds',
    help: 'How long calls took; streams, until they ended.',
    labelNames: ['service', 'method', 'code'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60],
    registers: this.registers,
  });

  constructor(version: string, readings: Readings) {
    const registers = this.registers;
    new Gauge({ name: 'berth_info', help: 'Its version.', labelNames: ['version'], registers }).set({ version }, 1);
    const read = (name: string, help: string, value: () => number) =>
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value());
        },
      });
    read('berth_images', 'Images in the store.', () => readings.images().count);
    read('berth_images_disk_bytes', 'What images take on the disk.', () => Number(readings.images().usedBytes));
    read('berth_images_inodes', 'Inodes that images take.', () => Number(readings.images().inodes));
    collectDefaultMetrics({ register: this.registry });
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  text(): Promise<string> {
    return this.registry.metrics();
  }

  pullStarted(): void {
    this.running.inc();
  }

  pullEnded(operation: string, outcome: string, seconds: number): void {
    this.running.dec();
    this.pulls.inc({ operation, outcome });
    if (outcome === 'succeeded') this.pullSeconds.observe({ operation }, seconds);
  }

  bytesPulled(bytes: number): void {
    this.pulledBytes.inc(bytes);
  }

  layerUnpacked(): void {
    this.layers.inc();
  }

  verifyFinding(kind: string): void {
    this.findings.inc({ kind });
  }

  rpcEnded(service: string, method: string, code: string, seconds: number): void {
    this.rpcs.observe({ service, method, code }, seconds);
  }
}
