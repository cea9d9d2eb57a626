import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { crashPoints } from '../../src/base/crash-points';
import { snapshot, type Snapshot } from '../support/leaks';
import { TestNode } from '../support/node';
import { ask, Elsewhere, runIn, Server, type Place } from '../support/traffic';

/** One element of the bridge's table, as nft shows it. */
interface NftElement {
  readonly set: string;
  readonly text: string;
}

const tcp = (hostPort: number, containerPort: number, hostIp = '') => ({
  protocol: 0,
  hostPort,
  containerPort,
  hostIp,
});
const udp = (hostPort: number, containerPort: number, hostIp = '') => ({
  protocol: 1,
  hostPort,
  containerPort,
  hostIp,
});
const sctp = (hostPort: number, containerPort: number) => ({ protocol: 2, hostPort, containerPort, hostIp: '' });

describe("the network of pods, by berth's own bridge", function () {
  this.timeout(180_000);
  let node: TestNode;
  let world: Elsewhere;
  let host: { pid: number };
  let clean: Snapshot;
  const servers: Server[] = [];

  before(async () => {
    node = await TestNode.start({ ownNetwork: true, config: config('') });
    host = { pid: node.daemon.holderPid };
    world = await Elsewhere.make();
    runIn(host, 'ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(world.place.pid));
    for (const [place, link, end] of [
      [host, 'up0', 1],
      [world.place, 'eth0', 2],
    ] as const) {
      runIn(place, 'ip', 'addr', 'add', `192.0.2.${end}/24`, 'dev', link);
      runIn(place, 'ip', 'addr', 'add', `2001:db8::${end}/64`, 'dev', link, 'nodad');
      runIn(place, 'ip', 'link', 'set', link, 'up');
    }
    await node.pod();
    await node.removeAll();
    clean = snapshot(node.daemon);
  });
  after(async () => {
    await world.destroy();
    await node.stop();
  });
  afterEach(async () => {
    for (const server of servers.splice(0)) await server.stop();
    await node.removeAll();
  });

  function config(network: string): string {
    const whose = network.includes('embedded') ? '' : 'embedded = "all"\n';
    return `[network]\ncni_config_dir = "/run/no-network-configuration"\n${whose}${network}\n`;
  }
  /** A daemon with another configuration, on the same host. */
  const configure = async (network: string) => {
    writeFileSync(node.daemon.configFile, `[log]\nlevel = "debug"\n${config(network)}`);
    await node.restart();
  };
  const pinOf = (pod: string) => ({ path: `/proc/${host.pid}/root${node.daemon.state}/sandboxes/${pod}/ns/net` });
  const networkOf = async (pod: string) =>
    (await node.client.call('PodSandboxStatus', { podSandboxId: pod })).status.network;
  const ipOf = async (pod: string) => (await networkOf(pod)).ip;
  const serve = async (pod: string, kind: 'tcp' | 'udp', port: number, word: string, address = '0.0.0.0') => {
    servers.push(await Server.start(pinOf(pod), kind, address, port, word));
  };
  const links = () =>
    runIn(host, 'ip', '-o', 'link')
      .trim()
      .split('\n')
      .map(line => /^\d+: ([^:@]+)/.exec(line)?.[1] ?? '');
  const podLinks = () => links().filter(name => /^berth[0-9a-f]{10}$/.test(name));
  const tableOf = (bridge: string) =>
    `berth_${bridge}_${createHash('sha256').update(node.daemon.root).digest('hex').slice(0, 6)}`;
  const elements = (bridge = 'berth0'): NftElement[] => {
    const all = JSON.parse(runIn(host, 'nft', '-j', 'list', 'table', 'inet', tableOf(bridge))) as {
      nftables: { set?: { name: string; elem?: unknown[] }; map?: { name: string; elem?: unknown[] } }[];
    };
    return all.nftables.flatMap(({ set, map }) => {
      const found = set ?? map;
      return (found?.elem ?? []).map(element => ({ set: found?.name ?? '', text: JSON.stringify(element) }));
    });
  };
  /** While `work` runs, a place sends what is for 127.0.0.1 to the host, from its own address. */
  const withHostAsLoopback = async (place: Place, gateway: string, own: string, work: () => Promise<void>) => {
    runIn(place, 'sysctl', '-qw', 'net.ipv4.conf.eth0.route_localnet=1');
    runIn(place, 'ip', 'addr', 'del', '127.0.0.1/8', 'dev', 'lo');
    runIn(place, 'ip', 'route', 'add', '127.0.0.1', 'via', gateway, 'dev', 'eth0', 'src', own);
    try {
      await work();
    } finally {
      runIn(place, 'ip', 'route', 'del', '127.0.0.1');
      runIn(place, 'ip', 'addr', 'add', '127.0.0.1/8', 'dev', 'lo');
    }
  };
  /** Interfaces go with their namespace, a moment after the answer. */
  const assertNothingLeft = async () => {
    await node.removeAll();
    assert.deepEqual(elements(), []);
    for (const until = Date.now() + 60_000; podLinks().length > 0 && Date.now() < until;) await sleep(50);
    assert.deepEqual(podLinks(), []);
    await node.assertNothingLeft({ ...clean, fds: snapshot(node.daemon).fds });
  };

  it('is ready where no file has a network, and says so', async () => {
    const { status } = await node.client.call('Status', {});
    const ready = status.conditions.find(({ type }) => type === 'NetworkReady');
    assert.equal(ready?.status, true);
    assert.equal(ready.reason, 'BerthBridge');
    assert.match(ready.message, /holds no network configuration, so pods are on a bridge of berth's own/);
  });

  it('gives a pod an address, a gateway and its name, and gives the address back', async () => {
    const pod = await node.pod();
    const ip = await ipOf(pod);
    assert.match(ip, /^10\.88\.0\.\d+$/);
    const container = await node.start(pod);
    assert.match(await node.exec(container, ['ip', '-4', 'addr', 'show', 'dev', 'eth0']), new RegExp(`inet ${ip}/16`));
    assert.match(await node.exec(container, ['ip', 'route']), /^default via 10\.88\.0\.1 dev eth0/m);
    assert.match(await node.exec(container, ['cat', '/etc/hosts']), new RegExp(`^${ip}\t`, 'm'));
    assert.match(node.daemon.log, /set net\.ipv4\.ip_forward = 1, which the network of pods needs/);
    await node.client.call('StopPodSandbox', { podSandboxId: pod });
    assert.equal(await ipOf(pod), '');
    await node.client.call('StopPodSandbox', { podSandboxId: pod });
    await assertNothingLeft();
  });

  it('takes pods to one another and, as the host, to the rest of the world', async () => {
    const [one, other] = [await node.pod(), await node.pod()];
    await serve(one, 'tcp', 80, 'one');
    await serve(one, 'udp', 53, 'one');
    servers.push(await Server.start(world.place, 'tcp', '192.0.2.2', 80, 'world'));
    servers.push(await Server.start(world.place, 'udp', '192.0.2.2', 53, 'world'));
    for (const [kind, port] of [
      ['tcp', 80],
      ['udp', 53],
    ] as const) {
      assert.equal(await ask(pinOf(other), kind, await ipOf(one), port), `one ${await ipOf(other)}`);
      assert.equal(await ask(pinOf(other), kind, '192.0.2.2', port), 'world 192.0.2.1');
    }
  });

  it('publishes ports: to the world, to the host by 127.0.0.1, to other pods, and to the pod itself', async () => {
    const server = await node.pod({ portMappings: [tcp(8080, 80), udp(5353, 53)] });
    const client = await node.pod();
    for (const [kind, port, published] of [
      ['tcp', 80, 8080],
      ['udp', 53, 5353],
    ] as const) {
      await serve(server, kind, port, 'pod');
      // The world is seen as itself.
      assert.equal(await ask(world.place, kind, '192.0.2.1', published), 'pod 192.0.2.2');
      assert.equal(await ask(host, kind, '127.0.0.1', published), 'pod 10.88.0.1');
      assert.match(await ask(host, kind, '192.0.2.1', published), /^pod /);
      assert.equal(await ask(pinOf(client), kind, '192.0.2.1', published), 'pod 10.88.0.1');
      assert.equal(await ask(pinOf(server), kind, '192.0.2.1', published), 'pod 10.88.0.1');
    }
    assert.equal(await ask(host, 'tcp', '::1', 8080), 'FAILED ECONNREFUSED');
    await node.client.call('StopPodSandbox', { podSandboxId: server });
    assert.equal(await ask(world.place, 'tcp', '192.0.2.1', 8080), 'FAILED ECONNREFUSED');
    await assertNothingLeft();
  });

  it('publishes a port on one address of the host’s alone, and another pod’s on the next', async () => {
    const local = await node.pod({ portMappings: [tcp(8080, 80, '127.0.0.1')] });
    const open = await node.pod({ portMappings: [tcp(8080, 80, '192.0.2.1')] });
    await serve(local, 'tcp', 80, 'local');
    await serve(open, 'tcp', 80, 'open');
    assert.match(await ask(host, 'tcp', '127.0.0.1', 8080), /^local /);
    assert.equal(await ask(world.place, 'tcp', '192.0.2.1', 8080), 'open 192.0.2.2');
    // As a hostile neighbour would.
    await withHostAsLoopback(world.place, '192.0.2.1', '192.0.2.2', async () =>
      assert.match(await ask(world.place, 'tcp', '127.0.0.1', 8080, { withinMs: 2000 }), /^FAILED/),
    );
  });

  it('publishes ports of SCTP by the same tables', async () => {
    await node.pod({ portMappings: [sctp(9000, 90)] });
    const found = elements().filter(({ set }) => set === 'ports4');
    assert.deepEqual(
      found.map(({ text }) => text.includes('"sctp",9000') && text.includes('90]')),
      [true],
    );
  });

  it('sends flows of UDP to the pod that has the port now', async () => {
    const before = await node.pod({ portMappings: [udp(5353, 53)] });
    await serve(before, 'udp', 53, 'before');
    const flow = { source: 40_000 };
    assert.equal(await ask(world.place, 'udp', '192.0.2.1', 5353, flow), 'before 192.0.2.2');
    await node.client.call('StopPodSandbox', { podSandboxId: before });
    const after = await node.pod({ portMappings: [udp(5353, 53)] });
    await serve(after, 'udp', 53, 'after');
    assert.equal(await ask(world.place, 'udp', '192.0.2.1', 5353, flow), 'after 192.0.2.2');
  });

  it('does not let pods reach what listens on the host’s loopback', async () => {
    const pod = await node.pod({ portMappings: [tcp(8080, 80)] });
    servers.push(await Server.start(host, 'udp', '127.0.0.1', 7000, 'secret'));
    assert.match(runIn(host, 'sysctl', '-n', 'net.ipv4.conf.berth0.route_localnet'), /^1/);
    // As a hostile pod would: 127.0.0.1 by way of its gateway.
    await withHostAsLoopback(pinOf(pod), '10.88.0.1', await ipOf(pod), async () =>
      assert.match(await ask(pinOf(pod), 'udp', '127.0.0.1', 7000, { withinMs: 2000 }), /^FAILED/),
    );
  });

  it('refuses a host port that another pod has, and says which', async () => {
    const holder = await node.pod({ portMappings: [tcp(8080, 80)] });
    await assert.rejects(
      node.pod({ portMappings: [tcp(8080, 81, '192.0.2.1')] }),
      new RegExp(`host port 8080/tcp of 192\\.0\\.2\\.1 is in use by pod sandbox ${holder}`),
    );
    await node.pod({ portMappings: [udp(8080, 80)] });
    assert.equal((await node.client.call('ListPodSandbox')).items.length, 2);
  });

  it('passes hosts whose iptables drop what is forwarded, in words that iptables understands', async () => {
    runIn(host, 'iptables', '-P', 'FORWARD', 'DROP');
    try {
      const pod = await node.pod({ portMappings: [tcp(8080, 80)] });
      await serve(pod, 'tcp', 80, 'pod');
      assert.equal(await ask(world.place, 'tcp', '192.0.2.1', 8080), 'pod 192.0.2.2');
      await node.pod();
      const rules = runIn(host, 'iptables', '-S', 'FORWARD').trim().split('\n');
      assert.equal(rules.length, 3, rules.join('\n'));
      assert.match(rules.join('\n'), /-A FORWARD -i berth0 .*-j ACCEPT/);
      assert.match(rules.join('\n'), /-A FORWARD -o berth0 .*-j ACCEPT/);
      assert.match(node.daemon.log, /this host drops what it forwards: FORWARD of iptables has rules for berth0 now/);
    } finally {
      runIn(host, 'iptables', '-P', 'FORWARD', 'ACCEPT');
      runIn(host, 'iptables', '-F', 'FORWARD');
    }
  });

  it('comes back when somebody flushes all rules', async () => {
    const old = await node.pod({ portMappings: [tcp(8080, 80)] });
    await serve(old, 'tcp', 80, 'old');
    runIn(host, 'nft', 'flush', 'ruleset');
    await node.pod();
    assert.equal(await ask(world.place, 'tcp', '192.0.2.1', 8080), 'old 192.0.2.2');
    // Without a pod that is new, when a daemon starts.
    runIn(host, 'nft', 'flush', 'ruleset');
    runIn(host, 'iptables', '-P', 'FORWARD', 'DROP');
    try {
      await node.restart();
      const answer = () => ask(world.place, 'tcp', '192.0.2.1', 8080, { withinMs: 2000 });
      let said = await answer();
      for (const until = Date.now() + 60_000; said !== 'old 192.0.2.2' && Date.now() < until;) said = await answer();
      assert.equal(said, 'old 192.0.2.2');
    } finally {
      runIn(host, 'iptables', '-P', 'FORWARD', 'ACCEPT');
      runIn(host, 'iptables', '-F', 'FORWARD');
    }
  });

  it('makes the bridge again when somebody has removed it', async () => {
    runIn(host, 'ip', 'link', 'del', 'berth0');
    const [one, other] = [await node.pod(), await node.pod()];
    await serve(one, 'tcp', 80, 'one');
    assert.match(await ask(pinOf(other), 'tcp', await ipOf(one), 80), /^one /);
  });

  it('gives 50 pods at once 50 addresses, and leaves nothing of them', async () => {
    const before = snapshot(node.daemon);
    const pods = await Promise.all(
      Array.from({ length: 50 }, (_, i) => node.pod({ portMappings: [tcp(20_000 + i, 80)] })),
    );
    const ips = await Promise.all(pods.map(ipOf));
    assert.equal(new Set(ips).size, 50);
    assert.equal(podLinks().length, 50);
    assert.equal(elements().filter(({ set }) => set === 'ports4').length, 50);
    const last = pods[49] ?? '';
    await serve(last, 'tcp', 80, 'last');
    assert.equal(await ask(world.place, 'tcp', '192.0.2.1', 20_049), 'last 192.0.2.2');
    await Promise.all(pods.map(podSandboxId => node.client.call('RemovePodSandbox', { podSandboxId })));
    await assertNothingLeft();
    await node.assertNothingLeft(before);
  });

  it('serves pods with a user namespace, whose network is theirs', async () => {
    const ids = [{ hostId: 200_000, containerId: 0, length: 65_536 }];
    const usernsOptions = { mode: 'POD', uids: ids, gids: ids };
    const security = { privileged: false, namespaceOptions: { usernsOptions } };
    const pod = await node.pod({ portMappings: [tcp(8080, 80)], linux: { securityContext: security } });
    await serve(pod, 'tcp', 80, 'pod');
    assert.equal(await ask(world.place, 'tcp', '192.0.2.1', 8080), 'pod 192.0.2.2');
  });

  it('holds traffic to the bandwidth of the annotations, at both ends', async () => {
    const annotations = { 'kubernetes.io/ingress-bandwidth': '10M', 'kubernetes.io/egress-bandwidth': '20M' };
    const pod = await node.pod({ annotations });
    const [link = ''] = podLinks();
    assert.match(runIn(host, 'tc', 'qdisc', 'show', 'dev', link), /tbf .* rate 10Mbit burst 128Kb/);
    assert.match(runIn(pinOf(pod), 'tc', 'qdisc', 'show', 'dev', 'eth0'), /tbf .* rate 20Mbit burst/);
  });

  it('has two families where two ranges are given, with published ports of both', async () => {
    await configure('ranges = ["10.77.0.0/24", "fd00:77::/64"]');
    try {
      const pod = await node.pod({ portMappings: [tcp(8080, 80)] });
      const client = await node.pod();
      const { ip, additionalIps } = await networkOf(pod);
      assert.match(ip, /^10\.77\.0\.\d+$/);
      const ip6 = additionalIps[0]?.ip ?? '';
      assert.match(ip6, /^fd00:77::[0-9a-f]+$/);
      await serve(pod, 'tcp', 80, 'pod', '::');
      servers.push(await Server.start(world.place, 'tcp', '2001:db8::2', 80, 'world'));
      assert.match(await ask(pinOf(client), 'tcp', ip6, 80), /^pod fd00:77::/);
      assert.equal(await ask(pinOf(client), 'tcp', '2001:db8::2', 80), 'world 2001:db8::1');
      assert.equal(await ask(world.place, 'tcp', '2001:db8::1', 8080), 'pod 2001:db8::2');
      assert.equal(await ask(world.place, 'tcp', '192.0.2.1', 8080), 'pod 192.0.2.2');
      assert.equal(await ask(pinOf(pod), 'tcp', '2001:db8::1', 8080), 'pod fd00:77::1');
      await assertNothingLeft();
    } finally {
      await node.removeAll();
      await configure('');
    }
  });

  it('says when a range has no address left, and gives out what comes back', async () => {
    await configure('ranges = ["10.66.0.0/29"]');
    try {
      const pods = await Promise.all(Array.from({ length: 5 }, () => node.pod()));
      await assert.rejects(node.pod(), /no address of 10\.66\.0\.0\/29 is free for the pod; remove pods, or/);
      const freed = await ipOf(pods[2] ?? '');
      await node.client.call('StopPodSandbox', { podSandboxId: pods[2] });
      assert.equal(await ipOf(await node.pod()), freed);
    } finally {
      await node.removeAll();
      await configure('');
    }
  });

  it('is the pod CIDR that the kubelet tells, also after a restart of the daemon', async () => {
    const tell = (podCidr: string) =>
      node.client.call('UpdateRuntimeConfig', { runtimeConfig: { networkConfig: { podCidr } } });
    await tell('10.55.3.0/24');
    try {
      assert.match(await ipOf(await node.pod()), /^10\.55\.3\.\d+$/);
      await node.restart();
      assert.match(await ipOf(await node.pod()), /^10\.55\.3\.\d+$/);
    } finally {
      // Where there is no daemon any more, that is what has to be said.
      await tell('').catch(() => undefined);
    }
  });

  it('keeps to itself a range that the host has a route to', async () => {
    const other = await TestNode.start({ ownNetwork: true, config: config('') });
    try {
      const theirs = { pid: other.daemon.holderPid };
      runIn(theirs, 'ip', 'link', 'add', 'vpn0', 'type', 'bridge');
      runIn(theirs, 'ip', 'addr', 'add', '10.88.7.1/24', 'dev', 'vpn0');
      runIn(theirs, 'ip', 'link', 'set', 'vpn0', 'up');
      const pod = await other.pod();
      const { status } = await other.client.call('PodSandboxStatus', { podSandboxId: pod });
      assert.match(status.network.ip, /^10\.89\.0\.\d+$/);
      // A bridge that another daemon has made is not taken, and a name that is asked for is not exchanged.
      await other.removeAll();
      runIn(theirs, 'ip', 'link', 'del', 'berth0');
      runIn(theirs, 'ip', 'link', 'add', 'berth0', 'type', 'bridge');
      runIn(theirs, 'ip', 'link', 'set', 'berth0', 'alias', 'berth /elsewhere berth0');
      // It was free when it was looked for; the next pod looks again.
      await assert.rejects(other.pod(), /the bridge berth0 is another berth daemon's/);
      await other.pod();
      await other.removeAll();
      await other.restart();
      await other.pod();
      assert.match(runIn(theirs, 'ip', '-o', 'link'), / berth1: .*alias berth .*\/root berth1$/m);
      writeFileSync(other.daemon.configFile, config('bridge = "berth0"'));
      await other.restart();
      await assert.rejects(other.pod(), /the bridge berth0 is another berth daemon's: .*network\.bridge/);
    } finally {
      await other.stop();
    }
  });

  it('stays whole beside another daemon of the host, as that starts, is refused a pod, has one, and ends', async () => {
    const pod = await node.pod({ portMappings: [tcp(8080, 80)] });
    await serve(pod, 'tcp', 80, 'pod');
    const assertWhole = async () => assert.equal(await ask(world.place, 'tcp', '192.0.2.1', 8080), 'pod 192.0.2.2');
    const other = await TestNode.start({ ownNetwork: node.daemon, config: config('bridge = "berth0"') });
    try {
      await assertWhole();
      await assert.rejects(other.pod(), /the bridge berth0 is another berth daemon's/);
      await assertWhole();
      writeFileSync(other.daemon.configFile, config(''));
      await other.restart();
      const theirs = await other.pod({ portMappings: [tcp(8081, 81)] });
      servers.push(
        await Server.start(
          { path: `/proc/${other.daemon.holderPid}/root${other.daemon.state}/sandboxes/${theirs}/ns/net` },
          'tcp',
          '0.0.0.0',
          81,
          'theirs',
        ),
      );
      assert.equal(await ask(world.place, 'tcp', '192.0.2.1', 8081), 'theirs 192.0.2.2');
      assert.ok(links().includes('berth1'));
      await assertWhole();
      for (const server of servers.splice(1)) await server.stop();
      await other.removeAll();
      await other.daemon.stop();
      assert.ok(!links().includes('berth1'), other.daemon.log.slice(-4000));
      await assertWhole();
    } finally {
      await other.stop();
    }
  });

  it('leaves pods that were there their addresses and ports over a restart, and gives no address twice', async () => {
    const pod = await node.pod({ portMappings: [tcp(8080, 80)] });
    await serve(pod, 'tcp', 80, 'pod');
    runIn(host, 'sysctl', '-qw', 'net.ipv6.conf.berth0.accept_ra=1');
    await node.restart();
    assert.notEqual(await ipOf(await node.pod()), await ipOf(pod));
    assert.match(runIn(host, 'sysctl', '-n', 'net.ipv6.conf.berth0.accept_ra'), /^0/);
    await assert.rejects(node.pod({ portMappings: [tcp(8080, 80)] }), /host port 8080\/tcp is in use/);
    assert.equal(await ask(world.place, 'tcp', '192.0.2.1', 8080), 'pod 192.0.2.2');
  });

  const deaths = crashPoints.filter(point => /^(bridge|run|stop-pod|rm-pod)\./.test(point));
  for (const point of deaths)
    it(`is whole after a daemon that died at ${point}`, async () => {
      if (point === 'bridge.made') runIn(host, 'ip', 'link', 'del', 'berth0');
      node.client.close();
      await node.daemon.kill();
      await node.daemon.run([], { BERTH_CRASH_AT: point });
      await node.reconnect();
      const life = async () => {
        const pod = await node.pod({ portMappings: [tcp(8080, 80)] });
        await node.client.call('StopPodSandbox', { podSandboxId: pod });
        await node.client.call('RemovePodSandbox', { podSandboxId: pod });
      };
      await life().catch(() => undefined);
      assert.equal(await node.daemon.ended(), 'SIGKILL');
      await node.daemon.run();
      await node.reconnect();
      await node.removeAll();
      const again = await node.pod({ portMappings: [tcp(8080, 80)] });
      await serve(again, 'tcp', 80, 'again');
      assert.equal(await ask(world.place, 'tcp', '192.0.2.1', 8080), 'again 192.0.2.2');
      for (const server of servers.splice(0)) await server.stop();
      await assertNothingLeft();
    });

  it('goes, with its rules, when a daemon ends that has no pods', async () => {
    const programs = ['iptables', 'ip6tables'];
    const rules = () => programs.map(program => runIn(host, program, '-S', 'FORWARD')).join('');
    for (const program of programs) runIn(host, program, '-P', 'FORWARD', 'DROP');
    try {
      const pod = await node.pod();
      await node.daemon.stop();
      assert.ok(links().includes('berth0'));
      assert.equal(rules().match(/-A FORWARD .*berth0/g)?.length, 4);
      await node.daemon.run();
      await node.reconnect();
      await node.client.call('RemovePodSandbox', { podSandboxId: pod });
      await node.daemon.stop();
      assert.ok(!links().includes('berth0'), node.daemon.log.slice(-4000));
      assert.doesNotMatch(runIn(host, 'nft', 'list', 'tables'), /berth/);
      assert.equal(rules(), '-P FORWARD DROP\n-P FORWARD DROP\n');
    } finally {
      for (const program of programs) runIn(host, program, '-P', 'FORWARD', 'ACCEPT');
    }
    await node.daemon.run();
    await node.reconnect();
    await node.pod();
  });

  it('removes what a pod left that no record knows', async () => {
    await node.pod();
    await node.removeAll();
    runIn(host, 'ip', 'link', 'add', 'berthdeadbeef00', 'type', 'bridge');
    const alias = `berth ${node.daemon.root} berth0 deadbeef`;
    runIn(host, 'ip', 'link', 'set', 'berthdeadbeef00', 'alias', alias);
    runIn(host, 'nft', `add element inet ${tableOf('berth0')} ports4 { tcp . 4711 : 10.88.9.9 . 1 }`);
    await node.restart();
    for (const until = Date.now() + 60_000; podLinks().length + elements().length > 0 && Date.now() < until;)
      await sleep(50);
    assert.deepEqual([podLinks(), elements()], [[], []]);
  });

  it('is berth-bridge in a file, with the keys of the bridge plugin; another key is refused by name', async () => {
    const dir = join(node.daemon.dir, 'cni');
    mkdirSync(dir, { recursive: true });
    writeFileSync(node.daemon.configFile, `[log]\nlevel = "debug"\n[network]\ncni_config_dir = "${dir}"\n`);
    await node.restart();
    const write = (plugin: object) =>
      writeFileSync(
        join(dir, '10-net.conflist'),
        JSON.stringify({ cniVersion: '1.0.0', name: 'own', plugins: [{ type: 'berth-bridge', ...plugin }] }),
      );
    try {
      write({ bridge: 'berth1', subnet: '10.44.0.0/24', vlan: 7 });
      await assert.rejects(node.pod(), /berth-bridge: .*vlan/);
      write({ bridge: 'berth1', subnet: '10.44.0.0/24', rangeStart: '10.45.0.1' });
      await assert.rejects(node.pod(), /rangeStart: 10\.45\.0\.1 is not in 10\.44\.0\.0\/24/);
      // As the bridge plugin has it, with a plugin of others after it.
      const ipam = { type: 'host-local', ranges: [[{ subnet: '10.44.0.0/24', rangeStart: '10.44.0.9' }]] };
      write({ bridge: 'berth1', ipam, capabilities: { portMappings: true } });
      const pod = await node.pod({ portMappings: [tcp(8080, 80)] });
      assert.equal(await ipOf(pod), '10.44.0.9');
      await serve(pod, 'tcp', 80, 'own');
      assert.equal(await ask(world.place, 'tcp', '192.0.2.1', 8080), 'own 192.0.2.2');
      rmSync(dir, { recursive: true });
      await node.removeAll();
      assert.deepEqual(elements('berth1'), []);
    } finally {
      await node.removeAll();
      rmSync(dir, { recursive: true, force: true });
      await configure('');
    }
  });

  it("is nobody's, or people's alone, where the configuration says so", async () => {
    await configure('embedded = "people"'); // the default
    try {
      const { status } = await node.client.call('Status', {});
      const ready = status.conditions.find(({ type }) => type === 'NetworkReady');
      assert.equal(ready?.status, false);
      assert.match(ready.message, /holds no network configuration; .* network\.embedded = "all"\)$/);
      assert.equal(await ipOf(await node.pod()), '');
    } finally {
      await node.removeAll();
      await configure('');
    }
  });
});
