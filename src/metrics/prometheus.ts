import { monitorEventLoopDelay } from 'node:perf_hooks';
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

  private readonly steps = new Histogram({
    name: 'berth_step_seconds',
    help: 'How long the steps of making pods and of making and starting containers took.',
    labelNames: ['call', 'step'],
    buckets: [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10],
    registers: this.registers,
  });
  private readonly cgroupCalls = new Histogram({
    name: 'berth_cgroup_seconds',
    help: 'How long operations on cgroups took.',
    labelNames: ['operation'],
    buckets: [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1, 10],
    registers: this.registers,
  });
  private readonly cniPlugins = new Histogram({
    name: 'berth_cni_plugin_seconds',
    help: 'How long network plugins took.',
    labelNames: ['command', 'plugin', 'outcome'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60],
    registers: this.registers,
  });
  private readonly events = new Counter({
    name: 'berth_events_total',
    help: 'What happened to containers, pods and images; die and oom among it.',
    labelNames: ['type', 'action'],
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
    read('berth_pulls_received_bytes', 'What the running pulls have fetched.', () => readings.pulls().receivedBytes);
    read(
      'berth_pulls_expected_bytes',
      'What they have to fetch, so far as is known.',
      () => readings.pulls().expectedBytes,
    );
    read('berth_monitors', 'Monitor processes, one beside each container that is there.', () => readings.monitors());
    readByState(registers, 'berth_pods', "Pods, the kubelet's and people's.", () => readings.pods());
    readByState(registers, 'berth_containers', "Containers, the kubelet's and people's.", () => readings.containers());
    readTotal(
      registers,
      'berth_log_bytes_total',
      'Bytes that the logs of containers have grown by, seen when this is read and when a container exits.',
      () => readings.logBytes(),
    );
    readTotal(
      registers,
      'berth_log_dropped_bytes_total',
      'Output of containers that could not be written to their logs.',
      () => readings.droppedLogBytes(),
    );
    readLoopLag(registers);
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: 1000 });
    // The library's own counts the interval between its samples as lag, and takes 100 a second.
    for (const { name } of this.registry.getMetricsAsArray()) {
      if (name.startsWith('nodejs_eventloop_lag')) this.registry.removeSingleMetric(name);
    }
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

  stepEnded(call: string, step: string, seconds: number): void {
    this.steps.observe({ call, step }, seconds);
  }

  cgroupCallEnded(operation: string, seconds: number): void {
    this.cgroupCalls.observe({ operation }, seconds);
  }

  cniPluginEnded(command: string, plugin: string, outcome: string, seconds: number): void {
    this.cniPlugins.observe({ command, plugin, outcome }, seconds);
  }

  eventTold(type: string, action: string): void {
    this.events.inc({ type, action });
  }
}

function readByState(registers: Registry[], name: string, help: string, states: () => Iterable<string>): void {
  new Gauge({
    name,
    help,
    labelNames: ['state'],
    registers,
    collect() {
      this.reset();
      for (const state of states()) this.inc({ state });
    },
  });
}

/** Between two samples; what is longer is lag. */
const LAG_SAMPLE_MS = 50;

function readLoopLag(registers: Registry[]): void {
  const delays = monitorEventLoopDelay({ resolution: LAG_SAMPLE_MS });
  delays.enable();
  new Gauge({
    name: 'berth_event_loop_lag_seconds',
    help: 'How late the event loop was since this was read last, sampled 20 times a second.',
    labelNames: ['quantile'],
    registers,
    collect() {
      for (const quantile of [0.5, 0.99, 1]) {
        const lagNs = delays.percentile(quantile * 100) - LAG_SAMPLE_MS * 1e6;
        this.set({ quantile }, Math.max(0, lagNs) / 1e9);
      }
      delays.reset();
    },
  });
}

/** A counter of what somebody else counts. */
function readTotal(registers: Registry[], name: string, help: string, total: () => number | Promise<number>): void {
  let told = 0;
  new Counter({
    name,
    help,
    registers,
    async collect() {
      const now = await total();
      this.inc(Math.max(0, now - told));
      told = Math.max(told, now);
    },
  });
}
