import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BerthError } from '../../../src/base/errors';
import { createLogger } from '../../../src/base/log';
import { addressBytes, addressText, parseSubnet, subnetText, textOfBytes } from '../../../src/network/addresses';
import { readBridgeConfig } from '../../../src/network/bridge/config';
import { assertPortsFree, Leases } from '../../../src/network/bridge/lease';
import { BerthBridge } from '../../../src/network/bridge/plugin';
import type { NetlinkCall } from '../../../src/network/netlink/netlink';
import { attr, attributes, decode, encode, nested, text, textOf } from '../../../src/network/netlink/message';

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
  const message = (type: number, sequence: number, ...body: Buffer[]) => {
    const bytes = encode([{ type, flags: 0, body: Buffer.concat(body), what: '' }]);
    bytes.writeUInt32LE(sequence, 8);
    return bytes;
  };
  const errno = (number: number) => {
    const body = Buffer.alloc(20);
    body.writeInt32LE(-number);
    return body;
  };
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
