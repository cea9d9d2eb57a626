import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { berth } from '../cli/berth';
import { Collector, valueOf, type CollectedSpan } from '../support/collector';
import { CriClient } from '../support/cri-client';
import { TestDaemon } from '../support/daemon';
import { refused, TestNode } from '../support/node';
import { samples } from '../support/samples';

describe('the metrics of a daemon', function () {
  this.timeout(60_000);
  let node: TestNode;
  before(async () => {
    node = await TestNode.start({ config: '[metrics]\naddress = ":0"\n' });
  });
  after(() => node.stop());
  afterEach(() => node.removeAll());

  it('count pods, containers, monitors, steps, cgroups, events and logs', async () => {
    const before = await samples(node.daemon.log);
    const pod = await node.pod();
    const id = await node.start(pod, { command: ['sh', '-c', 'echo 0123456789; exec sleep 1000'] });
    while ((await node.logLines(id)).length === 0) await node.status(id);
    const during = await samples(node.daemon.log);
    const more = (sample: string, now = during) => (now.get(sample) ?? 0) - (before.get(sample) ?? 0);
    assert.equal(during.get('berth_pods{state="ready"}'), 1);
    assert.equal(during.get('berth_containers{state="running"}'), 1);
    assert.equal(during.get('berth_monitors'), 1);
    for (const [call, step] of [
      ['RunPodSandbox', 'pin namespaces'],
      ['RunPodSandbox', 'make the cgroup'],
      ['CreateContainer', 'make the spec'],
      ['CreateContainer', 'init: set the container up'],
      ['StartContainer', 'wait until the command runs'],
    ]) {
      const labels = `{call="${call}",step="${step}"}`;
      assert.equal(more(`berth_step_seconds_count${labels}`), 1, labels);
      assert.ok(more(`berth_step_seconds_sum${labels}`) > 0, labels);
    }
    assert.equal(more('berth_cgroup_seconds_count{operation="create"}'), 2);
    assert.ok(more('berth_cgroup_seconds_sum{operation="create"}') > 0);
    for (const [type, action] of [
      ['pod', 'start'],
      ['container', 'create'],
      ['container', 'start'],
    ]) {
      assert.equal(more(`berth_events_total{type="${type}",action="${action}"}`), 1);
    }
    assert.ok(more('berth_log_bytes_total') >= 10);
    for (const name of [
      'berth_event_loop_lag_seconds{quantile="0.99"}',
      'process_resident_memory_bytes',
      'process_cpu_seconds_total',
      'berth_pulls_expected_bytes',
      'berth_log_dropped_bytes_total',
    ]) {
      assert.ok(during.has(name), name);
    }

    await node.client.call('StopContainer', { containerId: id, timeout: 0 });
    await node.client.call('RemovePodSandbox', { podSandboxId: pod });
    const after = await samples(node.daemon.log);
    assert.equal(after.get('berth_pods{state="ready"}'), undefined);
    assert.equal(after.get('berth_monitors'), 0);
    assert.equal(more('berth_events_total{type="container",action="die"}', after), 1);
    assert.ok(more('berth_cgroup_seconds_count{operation="remove"}', after) >= 2);
    await refused(node.client.call('StartContainer', { containerId: id }), 'NOT_FOUND');
    const failed = '{service="runtime.v1.RuntimeService",method="StartContainer",code="NOT_FOUND"}';
    assert.equal(more(`berth_rpc_seconds_count${failed}`, await samples(node.daemon.log)), 1);
  });

  it('know the output of a container that is gone when they are read', async () => {
    const before = await samples(node.daemon.log);
    await node.run(['sh', '-c', 'for i in 1 2 3 4 5 6 7 8 9 10; do echo 0123456789; done']);
    await node.removeAll();
    const after = await samples(node.daemon.log);
    const written = (after.get('berth_log_bytes_total') ?? 0) - (before.get('berth_log_bytes_total') ?? 0);
    assert.ok(written >= 100, String(written));
  });
});

describe('the metrics of network plugins', function () {
  this.timeout(60_000);

  it('are by command and outcome', async () => {
    await using daemon = await TestDaemon.prepare();
    const [conf, bin] = ['conf', 'bin'].map(name => join(daemon.dir, name));
    assert.ok(conf && bin);
    for (const dir of [conf, bin]) mkdirSync(dir);
    writeFileSync(
      daemon.configFile,
      `[metrics]\naddress = ":0"\n[network]\ncni_config_dir = "${conf}"\ncni_bin_dirs = ["${bin}"]\n`,
    );
    writeFileSync(join(conf, 'net.conf'), JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'scripted' }));
    const answer = '{"cniVersion":"1.0.0","ips":[]}';
    writeFileSync(
      join(bin, 'scripted'),
      `#!/bin/sh\ncat > /dev/null\n[ "$CNI_COMMAND" != ADD ] || echo '${answer}'\n[ ! -e ${bin}/fail ] || exit 1\n`,
    );
    chmodSync(join(bin, 'scripted'), 0o755);
    await daemon.run();
    using client = new CriClient(daemon.socket);
    const metadata = { name: 'p', namespace: 'n', uid: 'u', attempt: 0 };
    const { podSandboxId } = await client.call('RunPodSandbox', { config: { metadata } });
    await client.call('RemovePodSandbox', { podSandboxId });
    writeFileSync(join(bin, 'fail'), '');
    await assert.rejects(client.call('RunPodSandbox', { config: { metadata } }));
    const found = await samples(daemon.log);
    const count = (command: string, outcome: string) =>
      found.get(`berth_cni_plugin_seconds_count{command="${command}",plugin="scripted",outcome="${outcome}"}`);
    assert.deepEqual([count('ADD', 'succeeded'), count('DEL', 'succeeded'), count('ADD', 'failed')], [1, 1, 1]);
  });
});

describe('traces of a daemon', function () {
  this.timeout(60_000);

  it('have the calls with their steps, as parts of the kubelet’s', async () => {
    await using collector = await Collector.start();
    const node = await TestNode.start({
      config: `[tracing]\nendpoint = "${collector.url}"\nsamples_per_million = 0\n`,
    });
    try {
      const [traceId, spanId] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')];
      const parent = `00-${traceId}-${spanId}-01`;
      const traced = (name: string, request: object) => node.client.callTraced(name, request, parent);
      const { podSandboxId } = (await traced('RunPodSandbox', { config: node.podConfig() })) as {
        podSandboxId: string;
      };
      const request = { podSandboxId, config: node.containerConfig() };
      const { containerId } = (await traced('CreateContainer', request)) as { containerId: string };
      await traced('StartContainer', { containerId });
      await assert.rejects(traced('StartContainer', { containerId: 'nobody' }));
      await traced('PullImage', { image: { image: node.box } });
      // Of nobody's trace.
      await node.client.call('Version');
      await traced('StopContainer', { containerId, timeout: 0 });

      const ofTrace = (span: CollectedSpan) => span.traceId === traceId && span.kind === 2;
      const calls = await collector.collected(6, ofTrace);
      assert.deepEqual(
        calls.map(({ name, parentSpanId, attributes }) => [
          name.replace('runtime.v1.', ''),
          parentSpanId,
          valueOf({ attributes }, 'rpc.grpc.status_code'),
        ]),
        [
          ['RuntimeService/RunPodSandbox', spanId, '0'],
          ['RuntimeService/CreateContainer', spanId, '0'],
          ['RuntimeService/StartContainer', spanId, '0'],
          ['RuntimeService/StartContainer', spanId, '5'],
          ['ImageService/PullImage', spanId, '0'],
          ['RuntimeService/StopContainer', spanId, '0'],
        ],
      );
      const stepsOf = (i: number) =>
        collector.spans.filter(({ parentSpanId }) => parentSpanId === calls[i]?.spanId).map(({ name }) => name);
      assert.ok(stepsOf(0).includes('pin namespaces'), stepsOf(0).join());
      for (const step of ['make the spec', 'wait until init is ready', 'init: set the container up']) {
        assert.ok(stepsOf(1).includes(step), stepsOf(1).join());
      }
      assert.ok(stepsOf(2).includes('wait until the command runs'), stepsOf(2).join());
      assert.ok(
        stepsOf(4).some(step => step.startsWith('pull ')),
        stepsOf(4).join(),
      );
      assert.ok(stepsOf(5).includes('wait for the killed container to end'), stepsOf(5).join());
      assert.ok(collector.spans.every(span => span.traceId === traceId));
    } finally {
      await node.removeAll();
      await node.stop();
    }
  });

  it('of people’s calls have the steps of the pod and the container', async () => {
    await using collector = await Collector.start();
    const node = await TestNode.start({ config: `[tracing]\nendpoint = "${collector.url}"\n` });
    try {
      for (const args of [
        ['run', '-d', '--name', 'traced', node.box, 'true'],
        ['rm', '-f', 'traced'],
      ]) {
        const { code, stderr } = await berth(node.daemon.berthSocket, args);
        assert.equal(code, 0, stderr);
      }
      const [create] = await collector.collected(1, ({ name }) => name === 'berth.v1.Berth/Create');
      const steps = collector.spans.filter(({ parentSpanId }) => parentSpanId === create?.spanId);
      const works = new Set(steps.map(step => valueOf(step, 'berth.work')));
      assert.ok(works.has('RunPodSandbox') && works.has('CreateContainer'), [...works].join());
    } finally {
      await node.stop();
    }
  });

  it('change nothing when nobody takes them, and do not hold the end up', async () => {
    await using silent = await Collector.start();
    silent.status = 0;
    for (const endpoint of [silent.url, 'http://127.0.0.1:9']) {
      await using daemon = await TestDaemon.start({ config: `[tracing]\nendpoint = "${endpoint}"\n` });
      using client = new CriClient(daemon.socket);
      for (let i = 0; i < 50; i++) await client.call('Version');
      await daemon.stop();
    }
    assert.ok(silent.requests.length > 0);
  });
});
