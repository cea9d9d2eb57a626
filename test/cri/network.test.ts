import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { berth } from '../cli/berth';
import { snapshot } from '../support/leaks';
import { TestNode } from '../support/node';
import { patience } from '../support/patience';
import { runIn } from '../support/traffic';

/** What a daemon opens once and keeps is no leak of the test's. */
async function warm(node: TestNode): Promise<void> {
  await node.pod();
  await node.removeAll();
}

/** Plugins of Debian's, and scripts of the tests'. */
const systemPlugins = '/usr/lib/cni';

/** br_netfilter, as on a node of Kubernetes: else what a pod answers to its neighbour does not pass the node's translation. */
const isBridgeFiltered = existsSync('/proc/sys/net/bridge');

describe('the network of pods, by CNI', function () {
  this.timeout(120_000);
  let node: TestNode;
  let dir: string;

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'berth-cni-'));
    for (const sub of ['conf', 'bin', 'leases']) mkdirSync(join(dir, sub));
    node = await TestNode.start({
      ownNetwork: true,
      config: `[network]
        embedded = "none"
        cni_config_dir = "${dir}/conf"
        cni_bin_dirs = ["${dir}/bin", "${systemPlugins}"]
        cni_timeout_seconds = ${30 * patience}\n`,
    });
    await warm(node);
  });
  after(async () => {
    await node.stop();
    rmSync(dir, { recursive: true });
  });
  afterEach(async () => {
    // A plugin that a test made fail must not keep its pods.
    for (const name of ['log', 'fail', 'slow']) rmSync(join(dir, name), { force: true });
    await node.removeAll();
    rmSync(join(dir, 'conf'), { recursive: true });
    mkdirSync(join(dir, 'conf'));
  });

  const network = (name: string, document: object) =>
    writeFileSync(join(dir, 'conf', name), JSON.stringify({ cniVersion: '1.0.0', name: 'net', ...document }));
  const bridge = () => ({
    type: 'bridge',
    bridge: 'cni-test0',
    isGateway: true,
    ipMasq: false,
    ipam: { type: 'host-local', dataDir: join(dir, 'leases'), ranges: [[{ subnet: '10.99.0.0/24' }]] },
  });
  const leases = () => {
    const at = join(dir, 'leases/net');
    return existsSync(at) ? readdirSync(at).filter(name => /^\d+\.\d+\.\d+\.\d+$/.test(name)) : [];
  };
  const conditions = async () => {
    const { status } = await node.client.call('Status', {});
    const found = status.conditions.find(({ type }) => type === 'NetworkReady');
    assert.ok(found);
    return found;
  };
  const addressOf = async (pod: string) =>
    (await node.client.call('PodSandboxStatus', { podSandboxId: pod })).status.network;

  /** Writes down how it was called, in `log`; answers as the files beside it say. */
  const script = (name = 'scripted', result: object = { cniVersion: '1.1.0', ips: [] }) => {
    const file = join(dir, 'bin', name);
    writeFileSync(
      file,
      `#!/bin/sh
if [ -e ${dir}/slow ]; then sleep 1000; fi
printf '%s %s %s %s ' "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_IFNAME" "$CNI_ARGS" >> ${dir}/log
cat /dev/stdin >> ${dir}/log
echo >> ${dir}/log
if [ -e ${dir}/fail ] && [ "$(cat ${dir}/fail)" = "$CNI_COMMAND" ]; then
  echo '{"cniVersion":"1.1.0","code":50,"msg":"the switch is off","details":"turn it on"}'; exit 1
fi
if [ "$CNI_COMMAND" = ADD ]; then echo '${JSON.stringify(result)}'; fi
`,
    );
    chmodSync(file, 0o755);
    return { type: name };
  };
  const calls = () =>
    existsSync(join(dir, 'log'))
      ? readFileSync(join(dir, 'log'), 'utf8')
          .trim()
          .split('\n')
          .map(line => {
            const [, command = '', id = '', ifname = '', args = '', json = '{}'] =
              /^(\S*) (\S*) (\S*) (.*?) (\{.*)$/.exec(line) ?? [];
            return { command, id, ifname, args, config: JSON.parse(json) as Record<string, unknown> };
          })
      : [];

  it('is not ready without a configuration, and ready as soon as there is one', async () => {
    const none = await conditions();
    assert.equal(none.status, false);
    assert.equal(none.reason, 'NetworkPluginNotReady');
    assert.match(none.message, /holds no network configuration/);
    network('10-net.conflist', { plugins: [bridge()] });
    assert.equal((await conditions()).status, true);
  });

  it('is told apart from a broken file, whose mistake is named', async () => {
    writeFileSync(join(dir, 'conf/00-broken.conflist'), '{"cniVersion": "1.0.0", "name": "x", "plugins": [{}]}');
    const { status, message } = await conditions();
    assert.equal(status, false);
    assert.match(message, /00-broken\.conflist: plugins\.0\.type/);
    await assert.rejects(node.pod(), /no network for the pod: .*00-broken\.conflist/);
    network('10-net.conflist', { plugins: [bridge()] });
    assert.equal((await conditions()).status, true);
  });

  it('gives a pod an address, on which others reach it, also by the node’s port, and gives it back', async () => {
    network('10-net.conflist', {
      plugins: [bridge(), { type: 'portmap', capabilities: { portMappings: true }, snat: !isBridgeFiltered }],
    });
    const before = snapshot(node.daemon);
    const portMappings = [{ protocol: 0, containerPort: 80, hostPort: 18080, hostIp: '' }];
    const server = await node.pod({ portMappings });
    const { ip } = await addressOf(server);
    assert.match(ip, /^10\.99\.0\.\d+$/);
    const command = ['sh', '-c', 'mkdir /w; hostname > /w/index.html; exec httpd -f -p 80 -h /w'];
    const serving = await node.start(server, { command });
    assert.match(await node.exec(serving, ['ip', '-4', 'addr', 'show', 'dev', 'eth0']), new RegExp(`inet ${ip}/24`));
    assert.match(await node.exec(serving, ['cat', '/etc/hosts']), new RegExp(`^${ip}\t`, 'm'));
    const hostname = await node.exec(serving, ['hostname']);

    const client = await node.start(await node.pod());
    const retry = (url: string) => `for i in $(seq 100); do wget -q -O - ${url} && exit 0; sleep 0.1; done; exit 1`;
    assert.equal(await node.exec(client, ['sh', '-c', retry(`http://${ip}/`)]), hostname);
    const gateway = '10.99.0.1';
    assert.equal(await node.exec(client, ['sh', '-c', retry(`http://${gateway}:18080/`)]), hostname);

    assert.equal(leases().length, 2);
    await node.client.call('StopPodSandbox', { podSandboxId: server });
    assert.ok(!leases().includes(ip));
    assert.equal((await addressOf(server)).ip, '');
    await node.client.call('StopPodSandbox', { podSandboxId: server });
    await node.removeAll();
    assert.deepEqual(leases(), []);
    const rules = execFileSync('nsenter', [`--net=/proc/${node.daemon.holderPid}/ns/net`, 'iptables-save']).toString();
    assert.doesNotMatch(rules, /18080/);
    await node.assertNothingLeft(before);
  });

  it('is checked by its plugins with what ADD has answered, and a problem is told with the pod’s name', async () => {
    const result = { cniVersion: '1.0.0', ips: [{ address: '10.99.7.7/24' }] };
    network('10-net.conflist', { plugins: [script('scripted', result)] });
    const pod = await node.pod();
    const cli = (...args: string[]) => berth(join(node.daemon.state, 'berth.sock'), args);
    const fine = await cli('network', 'check', 'net');
    assert.deepEqual([fine.code, fine.stdout], [0, '1 pod: all is as it was made\n']);
    const checks = calls().filter(({ command }) => command === 'CHECK');
    assert.deepEqual(
      checks.map(({ config }) => config['prevResult']),
      [result],
    );

    await node.pod();
    writeFileSync(join(dir, 'fail'), 'CHECK');
    const failed = await cli('network', 'check');
    assert.equal(failed.code, 1);
    assert.match(failed.stdout, new RegExp(`\\(${pod.slice(0, 12)}\\) on net: .*the switch is off`));
    assert.match(failed.stdout, /^2 pods, 2 with a problem: /m);
  });

  it('is held to a bandwidth by the plugin for that, which leaves no interface behind', async () => {
    network('10-net.conflist', {
      plugins: [
        bridge(),
        { type: 'portmap', capabilities: { portMappings: true }, snat: false },
        { type: 'bandwidth', capabilities: { bandwidth: true } },
      ],
    });
    const host = { pid: node.daemon.holderPid };
    const links = () => runIn(host, 'ip', '-br', 'link').trim().split('\n').sort();
    const kinds = () => links().filter(line => !line.startsWith('cni-test0')).length;
    const before = kinds();
    const annotations = { 'kubernetes.io/ingress-bandwidth': '10M', 'kubernetes.io/egress-bandwidth': '20M' };
    const portMappings = [{ protocol: 0, containerPort: 80, hostPort: 18081, hostIp: '' }];
    const pod = await node.pod({ annotations, portMappings });
    const queues = runIn(host, 'tc', 'qdisc', 'show');
    assert.match(queues, /tbf .* rate 10Mbit/);
    assert.match(queues, /tbf .* rate 20Mbit/);
    assert.ok(kinds() > before);
    await node.client.call('StopPodSandbox', { podSandboxId: pod });
    for (const until = Date.now() + 60_000; kinds() > before && Date.now() < until;)
      await new Promise(resolve => setTimeout(resolve, 50));
    assert.equal(kinds(), before, links().join('\n'));
    assert.deepEqual(leases(), []);
  });

  it("is the host's where the pod asks for that, and no plugin is run", async () => {
    network('10-net.conflist', { plugins: [script()] });
    const pod = await node.pod({ linux: { securityContext: { namespaceOptions: { network: 'NODE' } } } });
    assert.equal((await addressOf(pod)).ip, '');
    assert.deepEqual(calls(), []);
  });

  it('hears who the pod is, what it may have by its capabilities, and the results of those before it', async () => {
    const ips = [{ address: '10.1.2.3/24' }, { address: 'fd00::3/64' }];
    const first = script('first', { cniVersion: '1.1.0', ips });
    network('10-net.conflist', {
      cniVersion: '1.1.0',
      plugins: [
        { ...first, capabilities: { portMappings: true, bandwidth: true, ipRanges: true } },
        { ...script('second', { cniVersion: '1.1.0', ips }), own: 1 },
      ],
    });
    await node.client.call('UpdateRuntimeConfig', {
      runtimeConfig: { networkConfig: { podCidr: '10.1.0.0/16,fd00::/64' } },
    });
    const pod = await node.pod({
      portMappings: [
        { protocol: 1, containerPort: 53, hostPort: 5353, hostIp: '127.0.0.1' },
        { protocol: 0, containerPort: 80, hostPort: 0, hostIp: '' },
      ],
      annotations: { 'kubernetes.io/ingress-bandwidth': '10M' },
    });
    await node.client.call('UpdateRuntimeConfig', { runtimeConfig: { networkConfig: { podCidr: '' } } });
    assert.deepEqual(await addressOf(pod), { ip: '10.1.2.3', additionalIps: [{ ip: 'fd00::3' }] });
    const [add, next] = calls().filter(({ command }) => command === 'ADD');
    assert.equal(add?.id, pod);
    assert.equal(add.ifname, 'eth0');
    assert.match(add.args, /IgnoreUnknown=1;K8S_POD_NAMESPACE=test;K8S_POD_NAME=pod-\d+;/);
    assert.deepEqual(add.config['runtimeConfig'], {
      portMappings: [{ hostPort: 5353, containerPort: 53, protocol: 'udp', hostIP: '127.0.0.1' }],
      bandwidth: { ingressRate: 10_000_000, ingressBurst: 2_147_483_647 },
      ipRanges: [[{ subnet: '10.1.0.0/16' }], [{ subnet: 'fd00::/64' }]],
    });
    assert.equal(add.config['capabilities'], undefined);
    assert.deepEqual((next?.config['prevResult'] as { ips: unknown }).ips, ips);
    assert.equal(next?.config['runtimeConfig'], undefined);
    assert.equal(next?.config['own'], 1);

    rmSync(join(dir, 'log'));
    await node.client.call('StopPodSandbox', { podSandboxId: pod });
    const ends = calls();
    assert.deepEqual(
      ends.map(({ command, config }) => `${command} ${String(config['type'])}`),
      ['DEL second', 'DEL first'],
    );
    assert.deepEqual((ends[1]?.config['prevResult'] as { ips: unknown }).ips, ips);
  });

  it('is needed by host ports: without one they lead nowhere', async () => {
    const portMappings = [{ protocol: 0, containerPort: 80, hostPort: 18080, hostIp: '' }];
    await assert.rejects(node.pod({ portMappings }), /port_mappings: host port 18080 leads nowhere/);
  });

  it('refuses an annotation and a pod CIDR that are none, and says which', async () => {
    network('10-net.conflist', { plugins: [script()] });
    await assert.rejects(
      node.pod({ annotations: { 'kubernetes.io/egress-bandwidth': 'much' } }),
      /kubernetes\.io\/egress-bandwidth: "much" is not a quantity/,
    );
    await assert.rejects(
      node.client.call('UpdateRuntimeConfig', { runtimeConfig: { networkConfig: { podCidr: '10.1.0.0' } } }),
      /pod CIDR "10\.1\.0\.0" is not an address with a prefix length/,
    );
  });

  it("that a plugin refuses makes no pod, shows the plugin's words, and keeps no address", async () => {
    network('10-net.conflist', { plugins: [bridge(), script()] });
    writeFileSync(join(dir, 'fail'), 'ADD');
    const before = snapshot(node.daemon);
    await assert.rejects(
      node.pod(),
      /CNI ADD of network "net": plugin scripted failed: the switch is off: turn it on \(code 50\)/,
    );
    assert.deepEqual(leases(), []);
    assert.deepEqual((await node.client.call('ListPodSandbox')).items, []);
    await node.assertNothingLeft(before);
  });

  it('whose plugin is not there is a sentence that says where it was looked for', async () => {
    network('10-net.conflist', { plugins: [{ type: 'nowhere' }] });
    await assert.rejects(node.pod(), /plugin nowhere is in none of .*\/bin, .*cni_bin_dirs/);
  });

  it('that cannot be taken down keeps the pod, and the next stop tries again', async () => {
    network('10-net.conflist', { plugins: [bridge(), script()] });
    const pod = await node.pod();
    writeFileSync(join(dir, 'fail'), 'DEL');
    await assert.rejects(node.client.call('StopPodSandbox', { podSandboxId: pod }), /CNI DEL .* the switch is off/);
    rmSync(join(dir, 'fail'));
    await node.client.call('StopPodSandbox', { podSandboxId: pod });
    assert.deepEqual(leases(), []);
  });

  it('goes by the configuration that the pod was made with, whatever the directory holds by then', async () => {
    network('10-net.conflist', { plugins: [bridge()] });
    const pod = await node.pod();
    rmSync(join(dir, 'conf/10-net.conflist'));
    await node.client.call('RemovePodSandbox', { podSandboxId: pod });
    assert.deepEqual(leases(), []);
  });

  it('is not ready when a plugin of version 1.1 says so, with its words', async () => {
    network('10-net.conflist', { cniVersion: '1.1.0', plugins: [script()] });
    writeFileSync(join(dir, 'fail'), 'STATUS');
    const { status, message } = await conditions();
    assert.equal(status, false);
    assert.match(message, /CNI STATUS of network "net": plugin scripted failed: the switch is off/);
  });

  it('of a pod that was being made when the daemon was killed is given back by the next', async () => {
    network('10-net.conflist', { plugins: [bridge()] });
    const before = snapshot(node.daemon);
    await node.daemon.kill();
    await node.daemon.run([], { BERTH_CRASH_AT: 'run.network-attached' });
    node.client.close();
    await node.reconnect();
    await assert.rejects(node.pod());
    await node.daemon.ended();
    assert.equal(leases().length, 1);
    await node.daemon.run();
    await node.reconnect();
    assert.deepEqual(leases(), []);
    assert.deepEqual((await node.client.call('ListPodSandbox')).items, []);
    await node.assertNothingLeft(before);
  });

  it('is told by a new daemon which pods are there, so that plugins give the rest back', async () => {
    network('10-net.conflist', { cniVersion: '1.1.0', plugins: [script()] });
    const pod = await node.pod();
    rmSync(join(dir, 'log'));
    await node.restart();
    const until = Date.now() + 20_000;
    while (!calls().some(({ command }) => command === 'GC') && Date.now() < until)
      await new Promise(resolve => setTimeout(resolve, 20));
    const collected = calls().find(({ command }) => command === 'GC');
    assert.deepEqual(collected?.config['cni.dev/valid-attachments'], [{ containerID: pod, ifname: 'eth0' }]);
  });
});

describe('a network plugin that hangs', function () {
  this.timeout(60_000);

  it('is killed after its time, and the sentence names it', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'berth-cni-'));
    const config = `[network]\ncni_config_dir = "${dir}"\ncni_bin_dirs = ["${dir}"]\ncni_timeout_seconds = 1\n`;
    const node = await TestNode.start({ ownNetwork: true, config });
    try {
      await warm(node);
      const before = snapshot(node.daemon);
      // Its children hold its output open.
      writeFileSync(join(dir, 'hangs'), '#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] || exit 0\nsleep 1000 & sleep 1000\n', {
        mode: 0o755,
      });
      writeFileSync(join(dir, 'a.conf'), '{"cniVersion": "0.4.0", "name": "net", "type": "hangs"}');
      await assert.rejects(node.pod(), /CNI ADD of network "net": plugin hangs did not end within 1 s/);
      await node.assertNothingLeft(before);
    } finally {
      await node.stop();
      rmSync(dir, { recursive: true });
    }
  });
});
