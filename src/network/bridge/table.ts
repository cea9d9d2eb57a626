import { createHash } from 'node:crypto';
import { KeyedLock } from '../../base/keyed-lock';
import { addressBytes, addressText, familyOf, subnetText, type Family, type Subnet } from '../addresses';
import { be16Bytes, type Request } from '../netlink/message';
import type { Netlink } from '../netlink/netlink';
import { NetlinkError } from '../netlink/netlink';
import {
  addChain,
  addElements,
  addRule,
  addSet,
  addTable,
  compare,
  destinationNat,
  destroyElements,
  destroyTable,
  interfaceName,
  isForThisHost,
  lookup,
  mask,
  masquerade,
  meta,
  originalPort,
  payload,
  transaction,
  verdict,
  type Element,
  type SetShape,
  type Table,
} from '../netlink/nftables';
import type { PortMapping } from './config';
import { isAny } from './lease';

/** What the table knows of a pod. */
export interface PublishedPod {
  readonly addresses: readonly string[];
  readonly portMappings: readonly PortMapping[];
}

/** What the table is to be: rules for these subnets, elements for these pods. */
export interface TableContent {
  readonly subnets: readonly { readonly subnet: Subnet; readonly masquerade: boolean }[];
  readonly pods: readonly PublishedPod[];
}

const SETS = [
  { name: 'bound4', key: ['ipv4', 'protocol', 'port'], data: ['ipv4', 'port'] },
  { name: 'ports4', key: ['protocol', 'port'], data: ['ipv4', 'port'] },
  { name: 'hairpin4', key: ['protocol', 'port', 'ipv4', 'port'] },
  { name: 'bound6', key: ['ipv6', 'protocol', 'port'], data: ['ipv6', 'port'] },
  { name: 'ports6', key: ['protocol', 'port'], data: ['ipv6', 'port'] },
  { name: 'hairpin6', key: ['protocol', 'port', 'ipv6', 'port'] },
] as const satisfies readonly SetShape[];

type SetName = (typeof SETS)[number]['name'];

const PROTOCOLS = { tcp: 6, udp: 17, sctp: 132 } as const;

/** Where addresses stand in a packet's header. */
const HEADER = {
  4: { nfproto: 2, source: 12, destination: 16, bytes: 4, words: 1 },
  6: { nfproto: 10, source: 8, destination: 24, bytes: 16, words: 4 },
} as const;

/** Priorities among the chains of a hook; include/uapi/linux/netfilter_ipv4.h. */
const PRIORITY = { raw: -300, dstnat: -100, srcnat: 100 };

/**
 * A bridge's table of nftables: address translation only, so nobody else's rules are touched or overruled. Its rules
 * change with the network; pods come and go as elements of sets, one transaction each.
 *
 *   before    drops what comes from elsewhere for the host's loopback, which published ports would let in: from pods by the
 *             bridge's route_localnet, from neighbours since a port of 127.0.0.1 is translated before the kernel looks
 *   inbound   what comes for this host goes to `ports`
 *   local     the same for the host's own connections
 *   ports     published ports to pods
 *   outbound  what leaves for elsewhere, and what comes back to the bridge by a published port, becomes this host's
 */
export class BridgeTable {
  readonly table: Table;
  private readonly locks = new KeyedLock();
  /** Of the rules as this daemon wrote them; undefined until it has. */
  private written: string | undefined;

  constructor(
    private readonly netlink: Netlink,
    private readonly bridge: string,
    /** Whose table it is: one daemon of a host never writes another one's. */
    owner: string,
  ) {
    this.table = { family: 'inet', name: tableName(owner, bridge) };
  }

  /** True when the rules are for this content; whether they are still there only the kernel knows. */
  hasRules({ subnets }: TableContent): boolean {
    return this.written === keyOf(subnets);
  }

  /** Everything anew, in one transaction: what there was is gone at the same instant. */
  async write(content: () => TableContent): Promise<void> {
    await this.locks.run('', () => this.writeNow(content()));
  }

  /** A pod that is new. `content` is for a table that somebody has removed meanwhile. */
  async publish(pod: PublishedPod, content: () => TableContent): Promise<void> {
    const changes = bySet([pod]).flatMap(([set, elements]) => addElements(this.table, set, elements));
    if (changes.length === 0) return;
    await this.locks.run('', async () => {
      try {
        await this.netlink.netfilter(transaction(changes));
      } catch (error) {
        if (!(error instanceof NetlinkError) || error.code !== 'ENOENT') throw error;
        await this.writeNow(content());
      }
    });
  }

  /** A pod that goes. Idempotent. */
  async withdraw(pod: PublishedPod): Promise<void> {
    const changes = bySet([pod]).flatMap(([set, elements]) => destroyElements(this.table, set, elements));
    const tolerant = changes.map(change => ({ ...change, tolerated: ['ENOENT'] }));
    await this.locks.run('', () => this.netlink.netfilter(transaction(tolerant)));
  }

  async remove(): Promise<void> {
    await this.locks.run('', () => this.netlink.netfilter(transaction([destroyTable(this.table)])));
    this.written = undefined;
  }

  private async writeNow(content: TableContent): Promise<void> {
    const { table } = this;
    const ids = new Map(SETS.map((set, index) => [set.name, index + 1]));
    const chains = [
      addChain(table, 'ports'),
      addChain(table, 'before', { type: 'filter', hook: 'prerouting', priority: PRIORITY.raw }),
      addChain(table, 'inbound', { type: 'nat', hook: 'prerouting', priority: PRIORITY.dstnat }),
      addChain(table, 'local', { type: 'nat', hook: 'output', priority: PRIORITY.dstnat }),
      addChain(table, 'outbound', { type: 'nat', hook: 'postrouting', priority: PRIORITY.srcnat }),
    ];
    await this.netlink.netfilter(
      transaction([
        destroyTable(table),
        addTable(table),
        ...SETS.map(set => addSet(table, set, ids.get(set.name) ?? 0)),
        ...chains,
        ...this.rules(content.subnets, set => ids.get(set) ?? 0),
        ...bySet(content.pods).flatMap(([set, elements]) => addElements(table, set, elements)),
      ]),
    );
    this.written = keyOf(content.subnets);
  }

  private rules(subnets: TableContent['subnets'], id: (set: SetName) => number): Request[] {
    const rule = (chain: string, ...expressions: Buffer[]) => addRule(this.table, chain, expressions);
    const ours = interfaceName(this.bridge);
    const to = [meta('oifname'), compare(ours)];
    const fromElsewhere = [meta('iifname'), compare(interfaceName('lo'), 'not')];
    const loopback = (where: number) => inside(where, { family: 4, first: 127n << 24n, prefix: 8 });
    return [
      rule('before', ...fromElsewhere, ...isFamily(4), ...loopback(HEADER[4].destination), verdict('drop')),
      rule('inbound', ...isForThisHost(), verdict('jump', 'ports')),
      rule('local', ...isFamily(4), ...isForThisHost(), verdict('jump', 'ports')),
      // From ::1 nothing can leave the host: who tries that hears so at once, and tries 127.0.0.1.
      rule('local', ...isFamily(6), ...isNotLoopback6(), ...isForThisHost(), verdict('jump', 'ports')),
      ...([4, 6] as const).flatMap(family => [
        rule('ports', ...isFamily(family), ...boundLookup(family, id), ...toPod(family, 2 + HEADER[family].words)),
        rule('ports', ...isFamily(family), ...portLookup(family, id), ...toPod(family, 2)),
      ]),
      rule('outbound', ...to, ...isFamily(4), ...loopback(HEADER[4].source), masquerade()),
      ...subnets.flatMap(({ subnet, masquerade: isWanted }) => {
        const { family } = subnet;
        const fromPods = [...isFamily(family), ...inside(HEADER[family].source, subnet)];
        const elsewhere = [meta('oifname'), compare(ours, 'not'), ...outside(HEADER[family].destination, subnet)];
        return [
          rule('outbound', ...fromPods, ...to, ...hairpinLookup(family, id), masquerade()),
          ...(isWanted ? [rule('outbound', ...fromPods, ...elsewhere, masquerade())] : []),
        ];
      }),
    ];
  }
}

/** What a daemon's table for a bridge is called: rules have no owner but by such names. */
export function tableName(owner: string, bridge: string): string {
  return `berth_${bridge}_${createHash('sha256').update(owner).digest('hex').slice(0, 6)}`;
}

function keyOf(subnets: TableContent['subnets']): string {
  return subnets
    .map(({ subnet, masquerade: isWanted }) => `${subnetText(subnet)} ${isWanted}`)
    .sort()
    .join(', ');
}

/* ---- pieces of rules ---- */

function isFamily(family: Family): Buffer[] {
  return [meta('nfproto'), compare(Buffer.of(HEADER[family].nfproto))];
}

function inside(where: number, subnet: Subnet): Buffer[] {
  return within(where, subnet, 'is');
}

/** Neither in the subnet nor for many receivers, which nobody answers. */
function outside(where: number, subnet: Subnet): Buffer[] {
  const many: Subnet =
    subnet.family === 4 ? { family: 4, first: 224n << 24n, prefix: 4 } : { family: 6, first: 0xffn << 120n, prefix: 8 };
  return [...within(where, subnet, 'not'), ...within(where, many, 'not')];
}

function within(where: number, { family, first, prefix }: Subnet, relation: 'is' | 'not'): Buffer[] {
  const { bytes } = HEADER[family];
  const width = BigInt(bytes * 8);
  const bits = ((1n << BigInt(prefix)) - 1n) << (width - BigInt(prefix));
  const asBytes = (number: bigint) => addressBytes(addressText(family, number));
  return [payload('network', where, bytes), mask(asBytes(bits)), compare(asBytes(first), relation)];
}

function isNotLoopback6(): Buffer[] {
  return [payload('network', HEADER[6].destination, 16), compare(addressBytes('::1'), 'not')];
}

/** The destination port of TCP, UDP and SCTP alike. */
function destinationPort(register: number): Buffer {
  return payload('transport', 2, 2, register);
}

function boundLookup(family: Family, id: (set: SetName) => number): Buffer[] {
  const { destination, bytes, words } = HEADER[family];
  const set = `bound${family}` as const;
  return [
    payload('network', destination, bytes),
    meta('l4proto', words),
    destinationPort(words + 1),
    lookup(set, id(set), words + 2),
  ];
}

function portLookup(family: Family, id: (set: SetName) => number): Buffer[] {
  const set = `ports${family}` as const;
  return [meta('l4proto'), destinationPort(1), lookup(set, id(set), 2)];
}

/** Where a lookup has put the pod's address and, after it, the port. */
function toPod(family: Family, register: number): Buffer[] {
  return [destinationNat(family === 4 ? 'ip' : 'ip6', register, register + HEADER[family].words)];
}

function hairpinLookup(family: Family, id: (set: SetName) => number): Buffer[] {
  const { destination, bytes, words } = HEADER[family];
  const set = `hairpin${family}` as const;
  return [
    meta('l4proto'),
    originalPort(1),
    payload('network', destination, bytes, 2),
    destinationPort(2 + words),
    lookup(set, id(set)),
  ];
}

/* ---- elements ---- */

function bySet(pods: readonly PublishedPod[]): [SetName, Element[]][] {
  const sets = new Map<SetName, Element[]>();
  for (const [set, element] of pods.flatMap(elementsOf)) {
    const elements = sets.get(set);
    if (elements) elements.push(element);
    else sets.set(set, [element]);
  }
  return [...sets];
}

function elementsOf({ addresses, portMappings }: PublishedPod): [SetName, Element][] {
  return portMappings.flatMap(mapping =>
    addresses.flatMap((address): [SetName, Element][] => {
      const { hostIP, hostPort, containerPort, protocol } = mapping;
      const family = familyOf(address);
      if (hostIP !== undefined && familyOf(hostIP) !== family) return [];
      const from = Buffer.concat([word(Buffer.of(PROTOCOLS[protocol])), word(be16Bytes(hostPort))]);
      const pod = Buffer.concat([addressBytes(address), word(be16Bytes(containerPort))]);
      const hairpin = { key: Buffer.concat([from, pod]) };
      if (hostIP === undefined || isAny(hostIP))
        return [
          [`ports${family}`, { key: from, data: pod }],
          [`hairpin${family}`, hairpin],
        ];
      return [
        [`bound${family}`, { key: Buffer.concat([addressBytes(hostIP), from]), data: pod }],
        [`hairpin${family}`, hairpin],
      ];
    }),
  );
}

/** Filled up to four bytes. */
function word(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(4 - bytes.length)]);
}
