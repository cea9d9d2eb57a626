import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { PodSandboxConfig } from '../../../src/cri';
import { findNetwork } from '../../../src/network/cni/config';
import { addressesIn } from '../../../src/network/cni/result';
import { podCidrs } from '../../../src/network/pod-cidrs';
import { runtimeConfigOf } from '../../../src/network/runtime-config';
import { tempFolder } from '../../support/temp';

describe('network configurations', () => {
  const { path, write } = tempFolder();
  const find = () => findNetwork(path());

  it('are taken by name, whatever their form, and a directory that is not there holds none', async () => {
    assert.deepEqual(await findNetwork(path('none')), { network: undefined, complaints: [] });
    write('20.conf', JSON.stringify({ cniVersion: '0.4.0', name: 'b', type: 'ptp', mtu: 1400 }));
    write('30.conflist', JSON.stringify({ cniVersion: '1.0.0', name: 'c', plugins: [{ type: 'bridge' }] }));
    write('10.txt', 'not looked at');
    const { network } = await find();
    assert.equal(network?.name, 'b');
    assert.deepEqual(network.plugins, [{ type: 'ptp', capabilities: {}, raw: { mtu: 1400 } }]);
  });

  it('speak the newest version that both sides know', async () => {
    const versions = { cniVersion: '0.4.0', cniVersions: ['1.1.0', '2.0.0'] };
    write('a.conflist', JSON.stringify({ ...versions, name: 'a', plugins: [{ type: 'x' }] }));
    assert.equal((await find()).network?.version, '1.1.0');
    write('a.conflist', JSON.stringify({ cniVersion: '9.0.0', name: 'a', plugins: [{ type: 'x' }] }));
    assert.match((await find()).complaints[0] ?? '', /CNI version 9\.0\.0 is not one of/);
  });

  it('take plugins from the folder of their name, unless they say that theirs are all', async () => {
    const list = { cniVersion: '1.1.0', name: 'net', plugins: [{ type: 'x' }] };
    mkdirSync(path('net'));
    write('net/a.conf', JSON.stringify({ type: 'y' }));
    write('a.conflist', JSON.stringify(list));
    const types = async () => (await find()).network?.plugins.map(({ type }) => type);
    assert.deepEqual(await types(), ['x', 'y']);
    write('a.conflist', JSON.stringify({ ...list, loadOnlyInlinedPlugins: true }));
    assert.deepEqual(await types(), ['x']);
  });

  for (const [document, complaint] of [
    ['{', /a\.conf: /],
    ['{"cniVersion":"1.0.0","name":"../x","type":"y"}', /name: /],
    ['{"cniVersion":"1.0.0","name":"x","type":"../y"}', /type: /],
    ['{"cniVersion":"1.0.0","name":"x"}', /names no plugin/],
  ] as const)
    it(`refuse ${document}`, async () => {
      write('a.conf', document);
      const { network, complaints } = await find();
      assert.equal(network, undefined);
      assert.match(complaints[0] ?? '', complaint);
    });
});

describe('results of network plugins', () => {
  it('name the addresses of the pod, not those of other interfaces', () => {
    const interfaces = [{ name: 'cni0' }, { name: 'eth0', sandbox: '/ns' }, { name: 'eth1', sandbox: '/ns' }];
    const ips = [
      { address: '10.0.0.1/24', interface: 0 },
      { address: '10.0.0.2/24', interface: 1 },
      { address: '10.1.0.2/24', interface: 2 },
      { address: 'fd00::2/64', interface: 1 },
      { address: 'nonsense', interface: 1 },
    ];
    assert.deepEqual(addressesIn({ interfaces, ips }, 'eth0'), ['10.0.0.2', 'fd00::2']);
  });

  it('are read in the oldest form, too', () => {
    const result = { cniVersion: '0.2.0', ip4: { ip: '10.0.0.2/24' }, ip6: { ip: 'fd00::2/64' } };
    assert.deepEqual(addressesIn(result, 'eth0'), ['10.0.0.2', 'fd00::2']);
    assert.deepEqual(addressesIn({ ips: 'none' }, 'eth0'), []);
  });
});

describe('what network plugins are told of a pod', () => {
  const told = (annotations: Record<string, string>) =>
    runtimeConfigOf(PodSandboxConfig.create({ annotations }), [])['bandwidth'];
  const key = 'kubernetes.io/egress-bandwidth';

  for (const [text, bits] of [
    ['1000', 1000],
    ['10M', 10_000_000],
    ['1.5M', 1_500_000],
    ['1Gi', 1_073_741_824],
  ] as const)
    it(`is ${bits} bits a second for ${text}`, () => {
      assert.deepEqual(told({ [key]: text }), { egressRate: bits, egressBurst: 2_147_483_647 });
    });

  for (const text of ['', '-1', '10', '1e3', '2P', 'M', '1 M', `${'9'.repeat(30)}`])
    it(`is refused for ${JSON.stringify(text)}`, () => {
      assert.throws(() => told({ [key]: text }), /is not a quantity/);
    });

  it('are ranges of both families', () => {
    assert.deepEqual(podCidrs('10.0.0.0/16, fd00::/64'), ['10.0.0.0/16', 'fd00::/64']);
    assert.deepEqual(podCidrs(''), []);
    for (const wrong of ['10.0.0.0', '10.0.0.0/33', 'x/8', 'fd00::/129'])
      assert.throws(() => podCidrs(wrong), /is not an address with a prefix length/);
  });
});
