import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { cgroupOf, hasV2 } from '../support/cgroup-files';
import type { Metric, PodSandboxMetrics } from '../support/cri-client';
import { useNode } from '../support/node';

const MIB = 1 << 20;

/** What cAdvisor tells of each container in the kubelet, as far as this machine's kernel counts it. */
const OF_CONTAINERS = `
container_cpu_cfs_periods_total container_cpu_cfs_throttled_periods_total container_cpu_cfs_throttled_seconds_total
container_cpu_system_seconds_total container_cpu_usage_seconds_total container_cpu_user_seconds_total
container_file_descriptors container_fs_inodes_free container_fs_inodes_total container_fs_limit_bytes
container_fs_usage_bytes container_last_seen container_memory_cache container_memory_failcnt
container_memory_failures_total container_memory_kernel_usage container_memory_mapped_file
container_memory_max_usage_bytes container_memory_rss container_memory_swap container_memory_total_active_file_bytes
container_memory_total_inactive_file_bytes container_memory_usage_bytes container_memory_working_set_bytes
container_oom_events_total container_pressure_cpu_stalled_seconds_total container_pressure_cpu_waiting_seconds_total
container_pressure_io_stalled_seconds_total container_pressure_io_waiting_seconds_total
container_pressure_memory_stalled_seconds_total container_pressure_memory_waiting_seconds_total container_processes
container_sockets container_spec_cpu_period container_spec_cpu_quota container_spec_cpu_shares
container_spec_memory_limit_bytes container_spec_memory_reservation_limit_bytes
container_spec_memory_swap_limit_bytes container_start_time_seconds container_threads container_threads_max
container_ulimits_soft
`
  .trim()
  .split(/\s+/);

const OF_THE_NETWORK = ['receive', 'transmit'].flatMap(way =>
  ['bytes', 'packets', 'packets_dropped', 'errors'].map(what => `container_network_${way}_${what}_total`),
);

describe('metrics of pods', function () {
  this.timeout(120_000);
  const node = useNode();
  const descriptors = async () => {
    const { descriptors: all } = await node().client.call('ListMetricDescriptors');
    return new Map(all.map(({ name, labelKeys }) => [name, labelKeys]));
  };
  const list = async () => (await node().client.call('ListPodSandboxMetrics')).podMetrics;
  const only = async (pod: string) => {
    const found = (await list()).find(({ podSandboxId }) => podSandboxId === pod);
    return found ?? assert.fail('the pod is not listed');
  };
  const named = (metrics: readonly Metric[], name: string) => metrics.filter(metric => metric.name === name);
  const value = (metrics: readonly Metric[], name: string, ...extra: string[]) => {
    const [metric, ...others] = named(metrics, name).filter(({ labelValues }) =>
      extra.every(label => labelValues.slice(6).includes(label)),
    );
    assert.ok(metric && others.length === 0, `${name} ${extra.join()}: ${others.length + 1} samples`);
    return Number(metric.value.value);
  };

  it('have descriptors that never change, each once and in order', async () => {
    const before = await descriptors();
    await node().start(await node().pod());
    assert.deepEqual(await descriptors(), before);
    const names = [...before.keys()];
    assert.deepEqual(names, [...new Set(names)].sort());
    for (const name of [...OF_CONTAINERS, ...OF_THE_NETWORK]) assert.ok(before.has(name), name);
    const base = ['container', 'id', 'image', 'name', 'namespace', 'pod'];
    for (const [name, keys] of before) assert.deepEqual(keys.slice(0, 6), base, name);
    assert.deepEqual(before.get('container_network_receive_bytes_total')?.slice(6), ['interface']);
    assert.deepEqual(before.get('container_memory_failures_total')?.slice(6), ['failure_type', 'scope']);
  });

  it('are what the kernel counts, each with its labels in the order of its descriptor', async () => {
    const pod = await node().pod();
    const id = await node().start(pod, {
      command: ['sh', '-c', 'dd if=/dev/zero of=/f bs=1M count=2; sleep 1000 & exec 5</dev/null; wait'],
      resources: { cpuShares: 512, cpuQuota: 50_000, cpuPeriod: 100_000, memoryLimitInBytes: 64 * MIB },
    });
    let mine: Metric[] = [];
    for (let until = Date.now() + 30_000; Date.now() < until; await sleep(100)) {
      mine = (await only(pod)).containerMetrics.find(({ containerId }) => containerId === id)?.metrics ?? [];
      if (value(mine, 'container_processes') === 2 && value(mine, 'container_fs_usage_bytes') > MIB) break;
    }
    const keys = await descriptors();
    for (const { name, labelValues, metricType, timestamp } of mine) {
      assert.equal(labelValues.length, keys.get(name)?.length, name);
      assert.equal(metricType, /(?<!inodes)_total$|_failcnt$/.test(name) ? 'COUNTER' : 'GAUGE', name);
      assert.equal(timestamp, '0');
    }
    const missing = OF_CONTAINERS.filter(name => named(mine, name).length === 0);
    assert.deepEqual(
      missing,
      hasV2(node()) ? [] : OF_CONTAINERS.filter(name => name.startsWith('container_pressure_')),
    );
    const status = await node().status(id);
    const [metric] = named(mine, 'container_processes');
    assert.deepEqual(metric?.labelValues, [
      status.metadata.name,
      await cgroupOf(node(), id),
      node().box,
      id,
      'test',
      'pod-' + (/\d+$/.exec((await podStatus(pod)).metadata.name)?.[0] ?? ''),
    ]);
    assert.equal(value(mine, 'container_processes'), 2);
    assert.equal(value(mine, 'container_threads'), 2);
    assert.ok(value(mine, 'container_file_descriptors') >= 7);
    assert.equal(value(mine, 'container_sockets'), 0);
    assert.equal(value(mine, 'container_spec_cpu_shares'), 512);
    assert.equal(value(mine, 'container_spec_cpu_quota'), 50_000);
    assert.equal(value(mine, 'container_spec_memory_limit_bytes'), 64 * MIB);
    assert.equal(value(mine, 'container_start_time_seconds'), Math.floor(Number(status.startedAt) / 1e9));
    assert.ok(value(mine, 'container_memory_usage_bytes') >= value(mine, 'container_memory_working_set_bytes'));
    assert.ok(value(mine, 'container_memory_max_usage_bytes') >= value(mine, 'container_memory_usage_bytes') - MIB);
    assert.ok(value(mine, 'container_memory_failures_total', 'pgfault', 'container') > 0);
    const limits = execFileSync('cat', [`/proc/${await node().pidOf(id)}/limits`], { encoding: 'utf8' });
    const soft = Number(/Max open files +(\d+)/.exec(limits)?.[1]);
    assert.equal(value(mine, 'container_ulimits_soft', 'max_open_files'), soft);
  });

  it('count the pod as a whole, and its network by interface', async () => {
    const pod = await node().pod();
    const id = await node().start(pod);
    const inPod = (...command: string[]) => execFileSync('nsenter', ['-t', String(pid), '-n', ...command]);
    const pid = await node().pidOf(id);
    inPod('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'peer0');
    const { metrics } = await only(pod);
    for (const name of OF_THE_NETWORK) assert.equal(value(metrics, name, 'eth0'), 0);
    assert.equal(value(metrics, 'container_threads'), 1);
    const [usage] = named(metrics, 'container_memory_usage_bytes');
    assert.ok(Number(usage?.value.value) > 0);
    assert.deepEqual([usage?.labelValues[0], usage?.labelValues[3]], ['', '']);
  });

  it('count what the kernel ended for want of memory', async () => {
    const pod = await node().pod();
    const id = await node().start(pod, {
      command: ['sh', '-c', 'head -c 100000000 /dev/zero | tail; exec sleep 1000'],
      resources: { memoryLimitInBytes: 16 * MIB },
    });
    for (const until = Date.now() + 60_000; ; await sleep(100)) {
      const [own] = (await only(pod)).containerMetrics;
      assert.equal(own?.containerId, id);
      if (value(own.metrics, 'container_oom_events_total') > 0) break;
      assert.ok(Date.now() < until, 'nothing was ended');
    }
  });

  it('are of ready pods and of containers that run, and streamed, each once', async () => {
    const [one, two] = [await node().pod(), await node().pod()];
    const running = await node().start(one);
    const ended = await node().start(one, { command: ['true'] });
    await node().exit(ended);
    await node().client.call('StopPodSandbox', { podSandboxId: two });
    const pods = await list();
    assert.deepEqual(
      pods.map(({ podSandboxId, containerMetrics }) => [podSandboxId, containerMetrics.map(c => c.containerId)]),
      [[one, [running]]],
    );
    const messages = (await node().client.allOf('StreamPodSandboxMetrics', {})) as {
      podSandboxMetrics: PodSandboxMetrics[];
    }[];
    const streamed = messages.flatMap(message => message.podSandboxMetrics);
    assert.deepEqual(
      streamed.map(({ podSandboxId }) => podSandboxId),
      [one],
    );
    // A disk appears when it is first read from.
    const names = (metrics: readonly Metric[] = []) =>
      metrics.map(({ name }) => name).filter(name => !/^container_(fs|blkio)/.test(name));
    assert.deepEqual(names(streamed[0]?.metrics), names(pods[0]?.metrics));
  });

  const podStatus = async (id: string) => (await node().client.call('PodSandboxStatus', { podSandboxId: id })).status;
});
