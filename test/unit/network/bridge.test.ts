import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BerthError } from '../../../src/base/errors';
import { createLogger } from '../../../src/base/log';
import { addressBytes, addressText, parseSubnet, subnetText, textOfBytes } from '../../../src/network/addresses';
import { readBridgeConfig } from '../../../src/network/bridge/config';
import { forgetFlows } from '../../../src/network/bridge/flows';
import { HostFirewall } from '../../../src/network/bridge/host-firewall';
import { assertPortsFree, assertPortsLead, Leases } from '../../../src/network/bridge/lease';
import { DefaultNetwork, type NetworkSettings } from '../../../src/network/default-network';
import { BerthBridge } from '../../../src/network/bridge/plugin';
import { getLink, linksIn } from '../../../src/network/netlink/link';
import { Netlink, type NetlinkCall } from '../../../src/network/netlink/netlink';
import { attr, attributes, decode, encode, nested, text, textOf } from '../../../src/network/netlink/message';

/** A message of the kernel's, in answer to one of a sequence. */
function message(type: number, sequence: number, ...body: Buffer[]): Buffer {
  const bytes = encode([{ type, flags: 0, body: Buffer.concat(body), what: '' }]);
  bytes.writeUInt32LE(sequence, 8);
  return bytes;
}

/** What an acknowledgement says; 0 is success. */
function errno(number: number): Buffer {
  const body = Buffer.alloc(20);
  body.writeInt32LE(-number);
  return body;
}

describe('addresses', () => {
  it('are the same as text, bytes and number', () => {
    const v4 = fc.ipV4();
    const v6 = fc.ipV6();
    fc.assert(
      fc.property(fc.oneof(v4, v6), address => {
        const bytes = addressBytes(address);
        assert.equal(bytes.length, address.includes(':') ? 16 : 4);
        const canonical = textOfBytes(bytes);
        assert.deepEqual(addressBytes(canonical), bytes);
        const number = BigInt(`0x${bytes.toString('hex')}`);
        assert.equal(addressText(bytes.length === 4 ? 4 : 6, number), canonical);
      }),
    );
  });

  it('make subnets of what is one, and nothing of what is none', () => {
    const of = (given: string) => {
      const subnet = parseSubnet(given);
      return subnet && subnetText(subnet);
    };
    assert.equal(of('10.88.3.4/16'), '10.88.0.0/16');
    assert.equal(of('fd00:1::77/64'), 'fd00:1::/64');
    assert.equal(of('::ffff:1.2.3.4/128'), '::ffff:1.2.3.4/128');
    for (const none of ['10.88.0.0', '10.88.0.0/33', '10.88/16', 'fe80::1%eth0/64', 'x/8', '/8'])
      assert.equal(of(none), undefined, none);
  });
});

describe('addresses of pods', () => {
  const nobody = { addresses: new Set<string>(), ports: [] };
  const config = (subnet: string, more: object = {}) => readBridgeConfig({ subnet, ...more });

  it('are given one after the other, never one that a pod has, nor the gateway', () => {
    const leases = new Leases();
    const held = new Set<string>();
    for (let round = 0; round < 5; round++) {
      const [lease] = leases.take(config('10.1.0.0/29'), { ...nobody, addresses: held });
      assert.ok(lease && !held.has(lease.address));
      held.add(lease.address);
    }
    assert.deepEqual([...held].sort(), ['10.1.0.2', '10.1.0.3', '10.1.0.4', '10.1.0.5', '10.1.0.6']);
    const full = () => leases.take(config('10.1.0.0/29'), { ...nobody, addresses: held });
    assert.throws(full, (error: unknown) => error instanceof BerthError && error.kind === 'resource_exhausted');
    held.delete('10.1.0.4');
    assert.equal(full()[0]?.address, '10.1.0.4');
  });

  it('rest after they came back, as long as there are others', () => {
    const leases = new Leases();
    assert.equal(leases.take(config('10.1.0.0/24'), nobody)[0]?.address, '10.1.0.2');
    assert.equal(leases.take(config('10.1.0.0/24'), nobody)[0]?.address, '10.1.0.3');
  });

  it('come of every list, from the first range in it that has one', () => {
    const ranges = [[{ subnet: '10.1.0.0/30' }, { subnet: '10.2.0.0/24' }], [{ subnet: 'fd00::/64' }]];
    const taken = { ...nobody, addresses: new Set(['10.1.0.2']) };
    const leases = new Leases().take(readBridgeConfig({ ranges }), taken);
    assert.deepEqual(
      leases.map(({ address, prefix, gateway }) => `${address}/${prefix} ${gateway}`),
      ['10.2.0.2/24 10.2.0.1', 'fd00::2/64 fd00::1'],
    );
  });

  it('and ports collide where one host address covers the other', () => {
    const tcp = (hostPort: number, hostIP?: string) =>
      ({ hostPort, containerPort: 1, protocol: 'tcp', hostIP }) as const;
    const held = (hostIP?: string) => ({ ...nobody, ports: [{ ...tcp(80, hostIP), pod: 'p' }] });
    const collides = (wanted: string | undefined, other: string | undefined) => {
      try {
        assertPortsFree([tcp(80, wanted)], held(other));
        return false;
      } catch {
        return true;
      }
    };
    assert.ok(collides(undefined, undefined));
    assert.ok(collides('10.0.0.1', undefined));
    assert.ok(collides(undefined, '::1'));
    assert.ok(collides('0.0.0.0', '10.0.0.1'));
    assert.ok(!collides('10.0.0.1', '10.0.0.2'));
    assert.ok(!collides('0.0.0.0', '::1'));
    assertPortsFree([tcp(81)], held());
    assert.throws(() => assertPortsFree([tcp(80), tcp(80)], nobody), /host port 80\/tcp is asked for twice/);
  });
});

describe('the network that berth brings', () => {
  it('keeps both what the kubelet tells and the range of the first pod, which come at the same time', async () => {
    const kept: NetworkSettings[] = [];
    let write = () => {};
    const begun = new Promise<void>(resolve => (write = resolve));
    let finish = () => {};
    const finished = new Promise<void>(resolve => (finish = resolve));
    const settings = {
      get: () => undefined,
      put: async (_key: string, one: NetworkSettings) => {
        write();
        await finished;
        kept.push(one);
      },
    };
    const options = { embedded: 'people', bridge: '', ranges: [], masquerade: true, mtu: 0, settings } as const;
    // A host without any route.
    const network = new DefaultNetwork(options, async () => Buffer.alloc(0), '/', createLogger('error', 'text'));
    const first = network.network();
    await begun;
    const told = network.setPodCidrs(['10.88.7.0/24']);
    finish();
    await Promise.all([first, told]);
    assert.deepEqual(kept.at(-1), { version: 1, podCidrs: ['10.88.7.0/24'], range: '10.88.0.0/16' });
    // The next pod does not get one of the kubelet's.
    assert.match(JSON.stringify(await network.network()), /"subnet":"10\.89\.0\.0\/16"/);
  });
});

describe('ports of the host', () => {
  const leads = (hostIP: string | undefined, ...subnets: string[]) => {
    const portMappings = [
      { hostPort: 80, containerPort: 1, protocol: 'udp', ...(hostIP === undefined ? {} : { hostIP }) },
    ];
    const ranges = subnets.map(subnet => [{ subnet }]);
    assertPortsLead(readBridgeConfig({ ranges, runtimeConfig: { portMappings } }));
  };

  it('of an address that has no way to the pod are refused, with one that has', () => {
    const [v4, v6] = ['10.1.0.0/24', 'fd00::/64'];
    for (const hostIP of [undefined, '0.0.0.0', '127.0.0.1', '192.0.2.1']) leads(hostIP, v4);
    for (const hostIP of [undefined, '::', '2001:db8::1', '127.0.0.1']) leads(hostIP, v4, v6);
    for (const hostIP of ['::1', '0:0::1'])
      assert.throws(() => leads(hostIP, v4, v6), /of \S*::1 leads nowhere: from ::1/);
    assert.throws(
      () => leads('2001:db8::1', v4),
      /host port 80\/udp of 2001:db8::1 leads nowhere: pods have no IPv6 address; publish it on an address of IPv4/,
    );
    assert.throws(() => leads('::', v4), /pods have no IPv6 address/);
    assert.throws(() => leads('127.0.0.1', v6), /pods have no IPv4 address/);
  });
});

describe('flows of UDP', () => {
  const CT = { NEW: 0x100, GET: 0x101, DELETE: 0x102 };
  const CTA = { TUPLE_ORIG: 1, ID: 12, FILTER: 25 };
  const tupleTo = (port: number, protocol = 17) =>
    nested(2, attr(1, Buffer.of(protocol)), attr(3, Buffer.of(port >> 8, port & 0xff)));
  const flow = (id: number, port: number, protocol?: number) =>
    Buffer.concat([
      Buffer.of(2, 0, 0, 0),
      nested(CTA.TUPLE_ORIG, tupleTo(port, protocol)),
      attr(CTA.ID, Buffer.of(0, 0, 0, id)),
    ]);

  it('are forgotten one by one, in the pod’s family, by kernels that refuse to by a filter or do not know it', async () => {
    const asked: { type: number; family: number | undefined }[] = [];
    const gone: Buffer[] = [];
    const kernel: NetlinkCall = async (_protocol, _namespace, request) =>
      Buffer.concat(
        decode(request).flatMap(({ type, body }) => {
          asked.push({ type, family: body[0] });
          if (type === CT.GET)
            return [flow(1, 53), flow(2, 54), flow(3, 53, 6), flow(4, 5300)].map(found =>
              encode([{ type: CT.NEW, flags: 0, body: found, what: '' }]),
            );
          const known = attributes(body.subarray(4));
          assert.ok(type === CT.DELETE && !known.has(CTA.FILTER));
          assert.deepEqual(known.get(CTA.TUPLE_ORIG), tupleTo(known.get(CTA.ID)?.[3] === 1 ? 53 : 5300));
          gone.push(known.get(CTA.ID) ?? Buffer.alloc(0));
          return [];
        }),
      );
    await forgetFlows(new Netlink(kernel), [53, 5300, 53], [4, 4], createLogger('error', 'text'));
    assert.deepEqual(gone, [Buffer.of(0, 0, 0, 1), Buffer.of(0, 0, 0, 4)]);
    const deletion = { type: CT.DELETE, family: 2 };
    assert.deepEqual(asked, [{ type: CT.GET, family: 2 }, deletion, deletion]);
    await forgetFlows(new Netlink(kernel), [], [4], createLogger('error', 'text'));
    assert.equal(asked.length, 3);
  });
});

describe('the firewall of a host that drops what it forwards', () => {
  const NFT = { NEWCHAIN: 0xa03, GETCHAIN: 0xa04, NEWRULE: 0xa06, GETRULE: 0xa07 };
  const [NAME, POLICY, DROP, ENOENT] = [3, 5, Buffer.alloc(4), 2];

  it('gets its two rules once, however many pods come at once', async () => {
    const rules: Buffer[] = [];
    const kernel: NetlinkCall = async (_protocol, _namespace, request) =>
      Buffer.concat(
        decode(request).flatMap(({ type, sequence, body }) => {
          const isIp = body[0] === 2;
          if (type === NFT.NEWRULE) rules.push(Buffer.concat([body, attr(3, Buffer.alloc(8))]));
          if (type === NFT.GETRULE) return isIp ? rules.map(rule => message(NFT.NEWRULE, sequence, rule)) : [];
          if (type !== NFT.GETCHAIN) return [];
          return isIp && textOf(attributes(body.subarray(4)).get(NAME)) === 'FORWARD'
            ? [message(NFT.NEWCHAIN, sequence, Buffer.alloc(4), attr(POLICY, DROP))]
            : [message(2, sequence, errno(ENOENT))];
        }),
      );
    const firewall = new HostFirewall(new Netlink(kernel), '/', createLogger('error', 'text'));
    await Promise.all([firewall.allow('berth0'), firewall.allow('berth0'), firewall.allow('berth0')]);
    await firewall.allow('berth0');
    assert.equal(rules.length, 2);
  });
});

describe('a list that changes while the kernel gives it out', () => {
  const answering = (tornTimes: number) => {
    let times = 0;
    const call: NetlinkCall = async () => {
      const flags = ++times <= tornTimes ? 0x10 : 0;
      return encode([{ type: 16, flags, body: Buffer.alloc(16), what: '' }]);
    };
    return { netlink: new Netlink(call), times: () => times };
  };

  it('is asked for again, but not for ever', async () => {
    const sometimes = answering(3);
    assert.equal(linksIn(await sometimes.netlink.route([getLink()])).length, 1);
    assert.equal(sometimes.times(), 4);
    const always = answering(Infinity);
    await assert.rejects(
      always.netlink.route([getLink()]),
      /list the network interfaces: what there is changes faster/,
    );
  });
});

describe('a kernel that lacks what a bridge needs', () => {
  /** What the kernel answers to every message: an error, with its header again. */
  const refusing = (errno: number) => async (_protocol: number, _namespace: string, request: Buffer) => {
    const answer = Buffer.alloc(36);
    answer.writeUInt32LE(36, 0);
    answer.writeUInt16LE(2, 4);
    request.copy(answer, 8, 8, 12);
    answer.writeInt32LE(-errno, 16);
    request.copy(answer, 20, 0, 16);
    return answer;
  };
  const bridge = (netlink: NetlinkCall) =>
    new BerthBridge({ netlink, owner: '/', log: createLogger('error', 'text'), pods: () => [] });

  it('is said in one sentence, with what to build it with', async () => {
    const status = bridge(refusing(95)).run('STATUS', 'net', { subnet: '10.1.0.0/24' });
    await assert.rejects(
      status,
      /^BerthError: CNI STATUS of network "net": nftables: the kernel was built without it; .* CONFIG_NF_TABLES_INET/,
    );
  });

  it('is not blamed for a refusal', async () => {
    const status = bridge(refusing(1)).run('STATUS', 'net', { subnet: '10.1.0.0/24' });
    await assert.rejects(status, /^BerthError: CNI STATUS of network "net": nftables: not permitted$/);
  });
});

describe('a kernel that was started with ipv6.disable=1', () => {
  const RTM = { NEWLINK: 16, GETLINK: 18 };
  const IFLA = { IFNAME: 3, LINKINFO: 18, AF_SPEC: 26 };
  const [EAFNOSUPPORT, AF_INET6] = [97, 10];
  /** Has every bridge and interface that is asked for, and takes all but settings of IPv6. */
  const kernel: NetlinkCall = async (protocol, _namespace, request) =>
    Buffer.concat(
      protocol !== 0
        ? []
        : decode(request).map(({ type, sequence, body }) => {
            const asked = attributes(body.subarray(16));
            if (type === RTM.GETLINK) {
              const link = [
                text(IFLA.IFNAME, textOf(asked.get(IFLA.IFNAME))),
                nested(IFLA.LINKINFO, text(1, 'bridge')),
              ];
              return message(RTM.NEWLINK, sequence, Buffer.alloc(16), ...link);
            }
            const families = attributes(asked.get(IFLA.AF_SPEC) ?? Buffer.alloc(0));
            return message(2, sequence, errno(type === RTM.NEWLINK && families.has(AF_INET6) ? EAFNOSUPPORT : 0));
          }),
    );

  it('has pods on bridges all the same', async () => {
    const bridge = new BerthBridge({ netlink: kernel, owner: '/', log: createLogger('error', 'text'), pods: () => [] });
    const lease = { address: '10.1.0.2', prefix: 24, gateway: '10.1.0.1' };
    const pod = { containerId: 'p', netns: '/proc/self/ns/net', ifname: 'eth0', args: '', leases: [lease] };
    const document = { bridge: 'berth-nowhere', subnet: '10.1.0.0/24', isGateway: false };
    assert.match(JSON.stringify(await bridge.run('ADD', 'net', document, pod)), /"10\.1\.0\.2\/24"/);
  });
});

describe('netlink messages', () => {
  it('come out as they went in, whatever they hold', () => {
    const value = fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes));
    fc.assert(
      fc.property(fc.array(value, { minLength: 1, maxLength: 20 }), values => {
        const body = Buffer.concat(values.map((bytes, i) => attr(i + 1, bytes)));
        assert.deepEqual(
          [...attributes(body).values()].map(bytes => bytes.toString('hex')),
          values.map(bytes => bytes.toString('hex')),
        );
        const replies = decode(encode([{ type: 20, flags: 0, body, what: 'x' }]));
        assert.deepEqual(
          replies.map(({ type, sequence }) => [type, sequence]),
          [[20, 1]],
        );
        assert.deepEqual(replies[0]?.body.subarray(0, body.length), body);
      }),
    );
  });

  it('that are cut or lie about their length are no reason to fail', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        bytes => void decode(Buffer.from(bytes)).map(({ body }) => attributes(body)),
      ),
    );
    const inner = nested(7, text(1, 'berth0'));
    assert.equal(textOf(attributes(attributes(inner).get(7) ?? Buffer.alloc(0)).get(1)), 'berth0');
  });
});
