import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { berth, type Ended } from '../cli/berth';
import { busyboxImage } from '../support/image-builder';
import { TestNode } from '../support/node';
import { ask, runIn, Server } from '../support/traffic';

describe('published ports of berth run', function () {
  this.timeout(120_000);
  let node: TestNode;
  let host: { pid: number };

  before(async () => {
    node = await TestNode.start({
      ownNetwork: true,
      config: '[network]\ncni_config_dir = "/run/no-network-configuration"\n',
    });
    host = { pid: node.daemon.holderPid };
    // It is the kubelet's plugin's, once that is set up.
    await node.client.call('UpdateRuntimeConfig', { runtimeConfig: { networkConfig: { podCidr: '10.88.7.0/24' } } });
    const config = { ExposedPorts: { '80/tcp': {}, '53/udp': {} }, Cmd: ['sleep', '1000'] };
    await node.load('web', busyboxImage({ config }));
  });
  after(() => node.stop());
  afterEach(async () => {
    const { stdout } = await cli('ps', '-aq', '--no-trunc');
    const ids = stdout.split('\n').filter(id => id !== '');
    if (ids.length > 0) await cli('rm', '-f', ...ids);
  });

  const cli = (...args: string[]): Promise<Ended> => berth(join(node.daemon.state, 'berth.sock'), args);
  const ok = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await cli(...args);
    assert.equal(code, 0, stderr);
    return stdout.trim();
  };
  const serving = 'mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w';
  const fetched = (port: number) =>
    runIn(
      host,
      'sh',
      '-c',
      `for i in $(seq 200); do busybox wget -q -O - http://127.0.0.1:${port}/ && exit 0; sleep 0.1; done; exit 1`,
    );

  it('have a network to show before there is any, for which nothing is chosen yet', async () => {
    assert.match(await ok('network', 'ls'), /^berth +berth-bridge +berth0 +10\.89\.0\.0\/16 +0$/m);
    assert.doesNotMatch(node.daemon.log, /chose a range/);
  });

  it('lead to the container, are shown by port, and go with it', async () => {
    await ok(
      'run',
      '-d',
      '--name',
      'web',
      '-p',
      '8080:80',
      '-p',
      '127.0.0.1:5353:53/udp',
      node.box,
      'sh',
      '-c',
      serving,
    );
    assert.equal(fetched(8080), 'hello\n');
    assert.equal(await ok('port', 'web'), '53/udp -> 127.0.0.1:5353\n80/tcp -> 0.0.0.0:8080');
    assert.equal(await ok('port', 'web', '80'), '0.0.0.0:8080');
    assert.equal(await ok('network', 'check'), '1 pod: all is as it was made');
    assert.match((await cli('port', 'web', '81')).stderr, /container web has not published port 81\/tcp/);
    await ok('rm', '-f', 'web');
    assert.equal(await ask(host, 'tcp', '127.0.0.1', 8080), 'FAILED ECONNREFUSED');
  });

  it('are the container’s again after a reboot, also when the first try to bring its pod back went wrong', async () => {
    await ok('run', '-d', '--name', 'web', '-p', '8080:80', node.box, 'sh', '-c', serving.replace('mkdir', 'mkdir -p'));
    await ok('stop', '-t', '0', 'web');
    const [pod] = JSON.parse(await ok('inspectp', 'berth/web')) as { id: string }[];
    const pin = join(node.daemon.state, 'sandboxes', pod?.id ?? '', 'ns/net');
    node.client.close();
    await node.daemon.kill();
    execFileSync('nsenter', [`--mount=/proc/${host.pid}/ns/mnt`, 'umount', pin]);
    await node.daemon.run([], { BERTH_CRASH_AT: 'bridge.plugged' });
    assert.notEqual((await cli('start', 'web')).code, 0);
    assert.equal(await node.daemon.ended(), 'SIGKILL');
    await node.daemon.run();
    await node.reconnect();
    await ok('start', 'web');
    assert.equal(fetched(8080), 'hello\n');
  });

  it('are any that are free where none is named, and those of the image with -P', async () => {
    await ok('run', '-d', '--name', 'one', '-p', '80', '-P', node.image('web'));
    await ok('run', '-d', '--name', 'two', '-P', node.image('web'));
    const ports = async (name: string) => (await ok('port', name)).split('\n');
    const [one, two] = [await ports('one'), await ports('two')];
    assert.deepEqual(
      [...one, ...two].map(line => line.replace(/\d+$/, 'N')),
      ['53/udp -> 0.0.0.0:N', '80/tcp -> 0.0.0.0:N', '53/udp -> 0.0.0.0:N', '80/tcp -> 0.0.0.0:N'],
    );
    assert.equal(new Set([...one, ...two].map(line => /\d+$/.exec(line)?.[0])).size, 4);
  });

  it('are refused where somebody has them: another container, or a program of the node', async () => {
    await ok('run', '-d', '--name', 'first', '-p', '8080:80', node.box, 'sleep', '1000');
    const again = await cli('run', '-d', '-p', '8080:80', node.box, 'sleep', '1000');
    assert.equal(again.code, 125);
    assert.match(again.stderr, /host port 8080\/tcp is in use by pod sandbox/);
    const server = await Server.start(host, 'tcp', '0.0.0.0', 9090, 'taken');
    try {
      const taken = await cli('run', '-d', '-p', '9090:80', node.box, 'sleep', '1000');
      assert.match(taken.stderr, /host port 9090\/tcp: a program of this host listens on it; choose another one/);
    } finally {
      await server.stop();
    }
    const away = await cli('run', '-d', '-p', '198.51.100.7:9090:80', node.box, 'sleep', '1000');
    assert.match(away.stderr, /198\.51\.100\.7 is not an address of this host/);
    const nowhere = await cli('run', '-d', '-p', '[::1]:9090:80', node.box, 'sleep', '1000');
    assert.match(nowhere.stderr, /host port 9090\/tcp of ::1 leads nowhere: .*; publish it on 127\.0\.0\.1/);
    const none = await cli('run', '-d', '--network', 'none', '-p', '9090:80', node.box, 'sleep', '1000');
    assert.match(none.stderr, /with --network none no ports are published/);
    assert.equal((await ok('ps', '-aq')).split('\n').length, 1);
  });

  it('need a network, of which there is none with --network none', async () => {
    assert.equal(await ok('run', '--rm', '--network', 'none', node.box, 'ls', '/sys/class/net'), 'lo');
    assert.equal(await ok('run', '--rm', '--network', 'bridge', node.box, 'ls', '/sys/class/net'), 'eth0\nlo');
    assert.equal(await ok('run', '--rm', node.box, 'ls', '/sys/class/net'), 'eth0\nlo');
  });

  it('and their network are shown by berth network', async () => {
    const pod = await node.pod();
    assert.equal((await node.client.call('PodSandboxStatus', { podSandboxId: pod })).status.network.ip, '');
    await ok('run', '-d', '--name', 'web', '-p', '8080:80', node.box, 'sleep', '1000');
    const [header, line] = (await ok('network', 'ls')).split('\n');
    assert.match(header ?? '', /^NAME +DRIVER +BRIDGE +SUBNETS +CONTAINERS$/);
    assert.match(line ?? '', /^berth +berth-bridge +berth0 +10\.89\.0\.0\/16 +1$/);
    assert.equal(await ok('network', 'ls', '-q'), 'berth');
    assert.equal(await ok('network', 'ls', '--format', '{{.Name}} {{.Driver}}'), 'berth berth-bridge');
    const [network] = JSON.parse(await ok('network', 'inspect', 'berth')) as {
      IPAM: { Config: unknown[] };
      Containers: Record<string, { Name: string; Addresses: string[]; Ports: unknown }>;
    }[];
    assert.deepEqual(network?.IPAM.Config, [{ Subnet: '10.89.0.0/16', Gateway: '10.89.0.1' }]);
    const members = Object.values(network.Containers);
    assert.deepEqual(
      members.map(({ Name, Ports }) => [Name, Ports]),
      [['web', { '0.0.0.0:8080': '80/tcp' }]],
    );
    assert.equal((await cli('network', 'inspect', 'nowhere')).code, 1);
    const unknown = await cli('network', 'check', 'bert');
    assert.deepEqual([unknown.code, /did you mean berth\?/.test(unknown.stderr)], [2, true]);
    await node.client.call('RemovePodSandbox', { podSandboxId: pod });
  });
});
