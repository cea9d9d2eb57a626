import type { Container } from '../../container/containers';
import type { MetricDescriptor } from '../../cri';
import type { Sandbox } from '../../sandbox/sandboxes';
import { Wire } from '../wire';
import type { PodFacts } from './facts';
import { containerMetrics, podMetrics, type Metric } from './metrics';

/** What every metric has, as cAdvisor has it in the kubelet: `id` is the cgroup, `name` the container's id. */
const BASE_LABELS = ['container', 'id', 'image', 'name', 'namespace', 'pod'] as const;

type BaseLabels = Record<(typeof BASE_LABELS)[number], string>;

/** Of every metric that there is, by name, each once. */
export function metricDescriptors(): MetricDescriptor[] {
  const all = new Map([...containerMetrics, ...podMetrics].map(metric => [metric.name, metric]));
  return [...all.values()]
    .map(({ name, help, labels }) => ({ name, help, labelKeys: [...BASE_LABELS, ...labels] }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A message whose field 1 is one PodSandboxMetrics. */
export function podMetricsMessage(facts: PodFacts): Buffer {
  const { sandbox } = facts.reading;
  const wire = new Wire(16_384 * (1 + facts.containers.length));
  const start = wire.begin(1);
  wire.string(1, sandbox.record.id);
  writeMetrics(wire, 2, podMetrics, facts, labelsOfPod(sandbox));
  for (const container of facts.containers) {
    const own = wire.begin(3);
    wire.string(1, container.reading.container.record.id);
    writeMetrics(wire, 2, containerMetrics, container, labelsOfContainer(sandbox, container.reading.container));
    wire.end(own);
  }
  wire.end(start);
  return wire.finish();
}

function writeMetrics<Subject>(
  wire: Wire,
  field: number,
  metrics: readonly Metric<Subject>[],
  subject: Subject,
  base: BaseLabels,
): void {
  const labels = encodedLabels(BASE_LABELS.map(key => base[key]));
  for (const metric of metrics) {
    for (const sample of metric.samples(subject)) {
      // Without a timestamp: it is taken for this call.
      const start = wire.begin(field);
      wire.string(1, metric.name);
      if (metric.type === 'gauge') wire.varint(3, 1);
      wire.raw(labels);
      for (const label of sample.labels) wire.string(4, label);
      wire.uint64Value(5, sample.value);
      wire.end(start);
    }
  }
}

function encodedLabels(values: readonly string[]): Buffer {
  const wire = new Wire(512);
  for (const value of values) wire.string(4, value);
  return wire.finish();
}

function labelsOfPod({ record, config }: Sandbox): BaseLabels {
  const { name = '', namespace = '' } = config.metadata ?? {};
  return { container: '', id: record.cgroupParent, image: '', name: '', namespace, pod: name };
}

function labelsOfContainer({ config }: Sandbox, container: Container): BaseLabels {
  const { record, config: own } = container;
  const { name = '', namespace = '' } = config.metadata ?? {};
  return {
    container: own.metadata?.name ?? '',
    id: record.cgroupPath,
    image: own.image?.userSpecifiedImage || own.image?.image || record.imageId,
    name: record.id,
    namespace,
    pod: name,
  };
}
