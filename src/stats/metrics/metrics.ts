import type { Pressure } from '../../cgroup/usage';
import { workingSetOf } from '../encode';
import type { InterfaceCounters } from '../networks';
import type { ContainerReading, PodReading } from '../readings';
import type { ContainerFacts, More, PodFacts } from './facts';

/**
 * The metrics that cAdvisor has in the kubelet, under the same names and with the
 * same labels (KEP-2371). The CRI has whole numbers only: seconds are rounded down.
 */
export interface Metric<Subject> {
  name: string;
  help: string;
  type: 'counter' | 'gauge';
  /** Keys of its labels beside those that all have. */
  labels: readonly string[];
  /** None where the host does not count it. */
  samples(subject: Subject): readonly Sample[];
}

interface Sample {
  /** In the order of the keys. */
  labels: readonly string[];
  value: number;
}

/** What both a container's cgroup and a pod's tell. */
interface CgroupFacts {
  reading: ContainerReading | PodReading;
  more: More;
}

const cgroupMetrics: readonly Metric<CgroupFacts>[] = [
  counter('container_cpu_usage_seconds_total', 'Cumulative cpu time consumed in seconds.', ['cpu'], ({ reading }) =>
    labelled(['total'], seconds(reading.usage?.cpuNs)),
  ),
  counter('container_cpu_user_seconds_total', 'Cumulative user cpu time consumed in seconds.', [], ({ more }) =>
    one(seconds(more.details.userNs)),
  ),
  counter('container_cpu_system_seconds_total', 'Cumulative system cpu time consumed in seconds.', [], ({ more }) =>
    one(seconds(more.details.systemNs)),
  ),
  counter('container_cpu_cfs_periods_total', 'Number of elapsed enforcement period intervals.', [], ({ more }) =>
    one(more.details.periods),
  ),
  counter('container_cpu_cfs_throttled_periods_total', 'Number of throttled period intervals.', [], ({ more }) =>
    one(more.details.throttledPeriods),
  ),
  counter(
    'container_cpu_cfs_throttled_seconds_total',
    'Total time duration the container has been throttled.',
    [],
    ({ more }) => one(seconds(more.details.throttledNs)),
  ),
  gauge('container_memory_usage_bytes', 'Current memory usage in bytes, the page cache included.', [], ({ reading }) =>
    one(reading.usage?.memoryBytes),
  ),
  gauge('container_memory_working_set_bytes', 'Current working set in bytes.', [], ({ reading }) =>
    one(reading.usage && workingSetOf(reading.usage)),
  ),
  gauge('container_memory_max_usage_bytes', 'Maximum memory usage recorded in bytes.', [], ({ more }) =>
    one(more.details.peakBytes),
  ),
  gauge('container_memory_rss', 'Size of RSS in bytes.', [], ({ reading }) => one(reading.usage?.anonBytes)),
  gauge('container_memory_cache', 'Number of bytes of page cache memory.', [], ({ more }) =>
    one(more.details.cacheBytes),
  ),
  gauge('container_memory_mapped_file', 'Size of memory mapped files in bytes.', [], ({ more }) =>
    one(more.details.mappedFileBytes),
  ),
  gauge('container_memory_total_active_file_bytes', 'Current total active file in bytes.', [], ({ more }) =>
    one(more.details.activeFileBytes),
  ),
  gauge('container_memory_total_inactive_file_bytes', 'Current total inactive file in bytes.', [], ({ reading }) =>
    one(reading.usage?.inactiveFileBytes),
  ),
  gauge('container_memory_kernel_usage', 'Size of kernel memory allocated in bytes.', [], ({ more }) =>
    one(more.details.kernelBytes),
  ),
  gauge('container_memory_swap', 'Container swap usage in bytes.', [], ({ reading }) => one(reading.usage?.swapBytes)),
  counter('container_memory_failcnt', 'Number of memory usage hits limits.', [], ({ more }) =>
    one(more.details.limitHits),
  ),
  counter(
    'container_memory_failures_total',
    'Cumulative count of memory allocation failures.',
    ['failure_type', 'scope'],
    ({ reading: { usage }, more: { details } }) => [
      ...labelled(['pgfault', 'container'], details.ownPageFaults ?? usage?.pageFaults),
      ...labelled(['pgfault', 'hierarchy'], usage?.pageFaults),
      ...labelled(['pgmajfault', 'container'], details.ownMajorPageFaults ?? usage?.majorPageFaults),
      ...labelled(['pgmajfault', 'hierarchy'], usage?.majorPageFaults),
    ],
  ),
  counter('container_oom_events_total', 'Count of out of memory events observed for the container.', [], ({ more }) =>
    one(more.details.oomKills),
  ),
  gauge('container_hugetlb_usage_bytes', 'Current hugepage usage in bytes.', ['pagesize'], ({ more }) =>
    more.details.hugepages.flatMap(({ pageSize, bytes }) => labelled([pageSize], bytes)),
  ),
  gauge('container_hugetlb_max_usage_bytes', 'Maximum hugepage usage recorded in bytes.', ['pagesize'], ({ more }) =>
    more.details.hugepages.flatMap(({ pageSize, peakBytes }) => labelled([pageSize], peakBytes)),
  ),
  ...pressureMetrics(),
  ...deviceMetrics(),
  gauge('container_threads', 'Number of threads running inside the container.', [], ({ reading }) =>
    one(reading.usage?.tasks),
  ),
  gauge(
    'container_threads_max',
    'Maximum number of threads allowed inside the container, infinity if value is zero.',
    [],
    ({ more: { details } }) => one(details.tasksMax === Infinity ? 0 : details.tasksMax),
  ),
  gauge('container_last_seen', 'Last time a container was seen by the exporter.', [], ({ reading }) =>
    one(Math.floor(reading.atMs / 1000)),
  ),
];

export const containerMetrics: readonly Metric<ContainerFacts>[] = [
  ...cgroupMetrics,
  gauge('container_processes', 'Number of processes running inside the container.', [], ({ processes }) =>
    one(processes?.count),
  ),
  gauge('container_file_descriptors', 'Number of open file descriptors for the container.', [], ({ processes }) =>
    one(processes?.descriptors),
  ),
  gauge('container_sockets', 'Number of open sockets for the container.', [], ({ processes }) =>
    one(processes?.sockets),
  ),
  gauge('container_ulimits_soft', 'Soft ulimit values for the container root process.', ['ulimit'], ({ processes }) =>
    labelled(['max_open_files'], processes?.openFilesMax),
  ),
  gauge(
    'container_fs_usage_bytes',
    'Number of bytes that are consumed by the container on this filesystem.',
    ['device'],
    f => (f.space ? labelled([f.space.device], f.reading.written?.bytes) : []),
  ),
  gauge(
    'container_fs_limit_bytes',
    'Number of bytes that can be consumed by the container on this filesystem.',
    ['device'],
    f => (f.space ? labelled([f.space.device], f.space.bytes) : []),
  ),
  gauge('container_fs_inodes_total', 'Number of Inodes.', ['device'], ({ space }) =>
    space ? labelled([space.device], space.inodes) : [],
  ),
  gauge('container_fs_inodes_free', 'Number of available Inodes.', ['device'], ({ space }) =>
    space ? labelled([space.device], space.freeInodes) : [],
  ),
  gauge('container_start_time_seconds', 'Start time of the container since unix epoch in seconds.', [], ({ reading }) =>
    one(seconds(Number(reading.container.record.startedAtNs))),
  ),
  ...specMetrics(),
];

/** The network is the pod's: its containers have none of their own to count. */
export const podMetrics: readonly Metric<PodFacts>[] = [
  ...cgroupMetrics,
  ...(
    [
      ['receive_bytes', 'Cumulative count of bytes received', 'receivedBytes'],
      ['receive_packets', 'Cumulative count of packets received', 'receivedPackets'],
      ['receive_packets_dropped', 'Cumulative count of packets dropped while receiving', 'receivedDropped'],
      ['receive_errors', 'Cumulative count of errors encountered while receiving', 'receiveErrors'],
      ['transmit_bytes', 'Cumulative count of bytes transmitted', 'sentBytes'],
      ['transmit_packets', 'Cumulative count of packets transmitted', 'sentPackets'],
      ['transmit_packets_dropped', 'Cumulative count of packets dropped while transmitting', 'sentDropped'],
      ['transmit_errors', 'Cumulative count of errors encountered while transmitting', 'sendErrors'],
    ] as const
  ).map(([what, help, key]) => networkMetric(what, help, key)),
];

function networkMetric(what: string, help: string, key: Exclude<keyof InterfaceCounters, 'name'>): Metric<PodFacts> {
  return counter(`container_network_${what}_total`, `${help}.`, ['interface'], ({ reading }) =>
    (reading.interfaces ?? []).flatMap(counters => labelled([counters.name], counters[key])),
  );
}

function pressureMetrics(): Metric<CgroupFacts>[] {
  return (['cpu', 'memory', 'io'] as const).flatMap(of => {
    const what = of === 'io' ? 'IO' : of === 'cpu' ? 'CPU' : of;
    const stalled = (kind: keyof Pressure) => (facts: CgroupFacts) =>
      one(seconds(facts.reading.usage?.[`${of}Pressure`]?.[kind].totalNs));
    return [
      counter(
        `container_pressure_${of}_waiting_seconds_total`,
        `Total time duration tasks in the container have waited due to ${what} congestion.`,
        [],
        stalled('some'),
      ),
      counter(
        `container_pressure_${of}_stalled_seconds_total`,
        `Total time duration no tasks in the container could make progress due to ${what} congestion.`,
        [],
        stalled('full'),
      ),
    ];
  });
}

function deviceMetrics(): Metric<CgroupFacts>[] {
  const perDevice = (name: string, help: string, key: 'reads' | 'writes' | 'readBytes' | 'writtenBytes') =>
    counter<CgroupFacts>(name, help, ['device'], ({ more }) => more.io.flatMap(io => labelled([io.name], io[key])));
  return [
    perDevice('container_fs_reads_total', 'Cumulative count of reads completed.', 'reads'),
    perDevice('container_fs_writes_total', 'Cumulative count of writes completed.', 'writes'),
    perDevice('container_fs_reads_bytes_total', 'Cumulative count of bytes read.', 'readBytes'),
    perDevice('container_fs_writes_bytes_total', 'Cumulative count of bytes written.', 'writtenBytes'),
    counter(
      'container_blkio_device_usage_total',
      'Blkio Device bytes usage.',
      ['device', 'major', 'minor', 'operation'],
      ({ more }) =>
        more.io.flatMap(({ name, device, readBytes, writtenBytes }) => {
          const [major = '', minor = ''] = device.split(':');
          return [
            ...labelled([name, major, minor, 'Read'], readBytes),
            ...labelled([name, major, minor, 'Write'], writtenBytes),
          ];
        }),
    ),
  ];
}

/** What was asked for; 0 is no limit. */
function specMetrics(): Metric<ContainerFacts>[] {
  const resources = ({ reading }: ContainerFacts) => reading.container.config.linux?.resources;
  const limit = (value: bigint | undefined) => Math.max(0, Number(value ?? 0n));
  const given = (value: bigint | undefined) => (value === undefined || value === 0n ? undefined : Number(value));
  return [
    gauge('container_spec_cpu_period', 'CPU period of the container.', [], facts =>
      one(given(resources(facts)?.cpuPeriod)),
    ),
    gauge('container_spec_cpu_quota', 'CPU quota of the container.', [], facts => {
      const quota = given(resources(facts)?.cpuQuota);
      return quota !== undefined && quota > 0 ? one(quota) : [];
    }),
    gauge('container_spec_cpu_shares', 'CPU share of the container.', [], facts =>
      one(given(resources(facts)?.cpuShares)),
    ),
    gauge('container_spec_memory_limit_bytes', 'Memory limit for the container.', [], facts =>
      one(limit(resources(facts)?.memoryLimitInBytes)),
    ),
    gauge('container_spec_memory_swap_limit_bytes', 'Memory swap limit for the container.', [], facts =>
      one(limit(resources(facts)?.memorySwapLimitInBytes)),
    ),
    gauge(
      'container_spec_memory_reservation_limit_bytes',
      'Memory reservation limit for the container.',
      [],
      // The CRI has none but v2's memory.low.
      facts => one(Number(resources(facts)?.unified['memory.low'] ?? 0) || 0),
    ),
  ];
}

function counter<Subject>(
  name: string,
  help: string,
  labels: readonly string[],
  samples: (subject: Subject) => readonly Sample[],
): Metric<Subject> {
  return { name, help, type: 'counter', labels, samples };
}

function gauge<Subject>(
  name: string,
  help: string,
  labels: readonly string[],
  samples: (subject: Subject) => readonly Sample[],
): Metric<Subject> {
  return { name, help, type: 'gauge', labels, samples };
}

function one(value: number | undefined): Sample[] {
  return labelled([], value);
}

function labelled(labels: readonly string[], value: number | undefined): Sample[] {
  return value === undefined ? [] : [{ labels, value }];
}

function seconds(ns: number | undefined): number | undefined {
  return ns === undefined ? undefined : Math.floor(ns / 1e9);
}
