import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Readings } from '../../../src/metrics/metrics';
import { PrometheusMetrics } from '../../../src/metrics/prometheus';

const values = {
  images: { count: 3, usedBytes: 4096n, inodes: 7n },
  pulls: { receivedBytes: 1, expectedBytes: 2 },
  pods: ['ready', 'ready', 'notready'],
  containers: ['running'],
  monitors: 1,
  logBytes: 10,
  droppedLogBytes: 5,
};
const readings: Readings = {
  images: () => values.images,
  pulls: () => values.pulls,
  pods: () => values.pods,
  containers: () => values.containers,
  monitors: () => values.monitors,
  logBytes: () => Promise.resolve(values.logBytes),
  droppedLogBytes: () => values.droppedLogBytes,
};

describe('metrics', function () {
  this.timeout(60_000);
  const metrics = new PrometheusMetrics('1.2.3', readings);
  const value = async (sample: string) => {
    const line = (await metrics.text()).split('\n').find(one => one.startsWith(`${sample} `));
    return line === undefined ? undefined : Number(line.slice(sample.length + 1));
  };

  it('count things by their states, and none in a state that nothing is in any more', async () => {
    assert.equal(await value('berth_pods{state="ready"}'), 2);
    assert.equal(await value('berth_pods{state="notready"}'), 1);
    values.pods = ['notready'];
    assert.equal(await value('berth_pods{state="ready"}'), undefined);
    assert.equal(await value('berth_containers{state="running"}'), 1);
  });

  it('follow what others count, and never count back', async () => {
    assert.equal(await value('berth_log_bytes_total'), 10);
    values.logBytes = 25;
    assert.equal(await value('berth_log_bytes_total'), 25);
    values.logBytes = 20;
    assert.equal(await value('berth_log_bytes_total'), 25);
    assert.equal(await value('berth_log_dropped_bytes_total'), 5);
  });

  it('have names and units that Prometheus expects, and help for each', async () => {
    const lines = (await metrics.text()).split('\n');
    const typed = lines.flatMap(line => /^# TYPE (berth_\w+) (\w+)$/.exec(line)?.slice(1) ?? []);
    assert.ok(typed.length > 20);
    for (let i = 0; i < typed.length; i += 2) {
      const [name = '', type] = typed.slice(i, i + 2);
      if (type === 'counter') assert.match(name, /_total$/);
      if (type === 'histogram') assert.match(name, /_seconds$/);
      const help = lines.find(line => line.startsWith(`# HELP ${name} `));
      assert.match(help ?? '', /\.$/, name);
    }
  });

  it('tell how late the event loop was, since they were read last', async () => {
    const lag = 'berth_event_loop_lag_seconds{quantile="1"}';
    do {
      // The first sample after a reading only begins an interval.
      await sleep(120);
      for (const until = performance.now() + 200; performance.now() < until;);
      await sleep(60);
    } while (((await value(lag)) ?? 0) < 0.1);
    assert.equal(await value('nodejs_eventloop_lag_p99_seconds'), undefined);
  });
});
