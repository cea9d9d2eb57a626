import { addressBytes, familyOf, textOfBytes } from '../addresses';
import {
  attr,
  attributes,
  nested,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  text,
  textOf,
  u32,
  u64,
  u8,
  type Reply,
  type Request,
} from './message';

/* Messages of rtnetlink(7): links, addresses, routes, queueing disciplines. */

const RTM = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  NEWADDR: 20,
  GETADDR: 22,
  NEWROUTE: 24,
  GETROUTE: 26,
  NEWQDISC: 36,
};
const IFLA = { ADDRESS: 1, IFNAME: 3, MTU: 4, MASTER: 10, LINKINFO: 18, IFALIAS: 20, AF_SPEC: 26, NET_NS_FD: 28 };
const INFO = { KIND: 1, DATA: 2, SLAVE_KIND: 4, SLAVE_DATA: 5 };
const VETH_INFO_PEER = 1;
const BRPORT_MODE = 4;
const IFA = { ADDRESS: 1, LOCAL: 2, FLAGS: 8 };
const IFA_F_NODAD = 0x02;
const RTA = { DST: 1, OIF: 4, GATEWAY: 5 };
const RT_TABLE_MAIN = 254;
const TCA = { KIND: 1, OPTIONS: 2 };
const TCA_TBF = { PARMS: 1, RATE64: 4, BURST: 6 };
const TC_H_ROOT = 0xffffffff;
const AF_INET = 2;
const AF_INET6 = 10;
const IFLA_INET_CONF = 1;
const IPV4_DEVCONF_ROUTE_LOCALNET = 26;
const IFLA_INET6_ADDR_GEN_MODE = 8;
const IN6_ADDR_GEN_MODE_NONE = 1;
const IFF_UP = 1;

export interface Link {
  readonly index: number;
  readonly name: string;
  readonly isUp: boolean;
  /** "bridge", "veth", …; empty for hardware. */
  readonly kind: string;
  readonly alias: string;
  readonly mtu: number;
}

/** Asks for one link, or for all. */
export function getLink(name?: string): Request {
  if (name === undefined)
    return { type: RTM.GETLINK, flags: NLM_F_DUMP, body: ifinfo(), what: 'list the network interfaces' };
  return {
    type: RTM.GETLINK,
    flags: 0,
    body: Buffer.concat([ifinfo(), text(IFLA.IFNAME, name)]),
    what: `look at the network interface ${name}`,
    tolerated: ['ENODEV'],
  };
}

export function linksIn(replies: readonly Reply[]): Link[] {
  return replies.filter(({ type }) => type === RTM.NEWLINK).map(({ body }) => linkOf(body));
}

function linkOf(body: Buffer): Link {
  const found = attributes(body.subarray(16));
  return {
    index: body.readInt32LE(4),
    isUp: (body.readUInt32LE(8) & IFF_UP) !== 0,
    name: textOf(found.get(IFLA.IFNAME)),
    alias: textOf(found.get(IFLA.IFALIAS)),
    kind: textOf(attributes(found.get(IFLA.LINKINFO) ?? Buffer.alloc(0)).get(INFO.KIND)),
    mtu: found.get(IFLA.MTU)?.readUInt32LE(0) ?? 0,
  };
}

/** A bridge with an address of its own, so that it does not change with its ports. */
export function addBridge(name: string, mac: Buffer, mtu: number): Request {
  const attributesOf = [text(IFLA.IFNAME, name), attr(IFLA.ADDRESS, mac), ...mtuOf(mtu)];
  return {
    type: RTM.NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: Buffer.concat([ifinfo(), ...attributesOf, nested(IFLA.LINKINFO, text(INFO.KIND, 'bridge'))]),
    what: `make the bridge ${name}`,
  };
}

/** Whether the kernel can make such links: it says EOPNOTSUPP (ENOTSUP in Node) when not, and else EINVAL to an address of three bytes. */
export function probeKind(kind: 'bridge' | 'veth'): Request {
  const body = [ifinfo(), attr(IFLA.ADDRESS, Buffer.alloc(3)), nested(IFLA.LINKINFO, text(INFO.KIND, kind))];
  return {
    type: RTM.NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: Buffer.concat(body),
    what: `network interfaces of kind ${kind}`,
    tolerated: ['EINVAL', 'ERANGE'],
  };
}

export interface Pair {
  readonly name: string;
  /** The bridge's index. */
  readonly master: number;
  readonly mtu: number;
  readonly peer: { readonly name: string; readonly mac: Buffer; readonly namespaceFd: number };
}

/** A veth pair, one end a port of a bridge and the other in another namespace. Neither is up. */
export function addPair({ name, master, mtu, peer }: Pair): Request {
  const peerOf = [text(IFLA.IFNAME, peer.name), attr(IFLA.ADDRESS, peer.mac), ...mtuOf(mtu)];
  const inside = Buffer.concat([ifinfo(), ...peerOf, u32(IFLA.NET_NS_FD, peer.namespaceFd)]);
  const info = nested(IFLA.LINKINFO, text(INFO.KIND, 'veth'), nested(INFO.DATA, attr(VETH_INFO_PEER, inside)));
  return {
    type: RTM.NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: Buffer.concat([ifinfo(), text(IFLA.IFNAME, name), ...mtuOf(mtu), u32(IFLA.MASTER, master), info]),
    what: `make the network interfaces ${name} and, in the pod, ${peer.name}`,
  };
}

/** A link's settings, by its name; what is absent stays. */
export interface LinkChange {
  readonly isUp?: boolean;
  readonly alias?: string;
  /** The bridge it is a port of; 0 for none. */
  readonly master?: number;
  /** As a port of a bridge: frames may leave by the port that they came from. */
  readonly hairpin?: boolean;
  /** No link-local IPv6 address of its own. */
  readonly withoutLinkLocal?: boolean;
  /** Addresses of 127.0.0.0/8 may pass. */
  readonly routeLocalnet?: boolean;
}

export function changeLink(name: string, change: LinkChange, tolerated: readonly string[] = []): Request {
  const { isUp, alias, master, hairpin, withoutLinkLocal, routeLocalnet } = change;
  const families = [
    ...(routeLocalnet ? [nested(AF_INET, nested(IFLA_INET_CONF, u32(IPV4_DEVCONF_ROUTE_LOCALNET, 1)))] : []),
    ...(withoutLinkLocal ? [nested(AF_INET6, u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE))] : []),
  ];
  const port = nested(INFO.SLAVE_DATA, u8(BRPORT_MODE, hairpin ? 1 : 0));
  const body = [
    ifinfo(isUp ? IFF_UP : 0, isUp === undefined ? 0 : IFF_UP),
    text(IFLA.IFNAME, name),
    ...(alias === undefined ? [] : [text(IFLA.IFALIAS, alias)]),
    ...(master === undefined ? [] : [u32(IFLA.MASTER, master)]),
    ...(hairpin === undefined ? [] : [nested(IFLA.LINKINFO, text(INFO.SLAVE_KIND, 'bridge'), port)]),
    ...(families.length === 0 ? [] : [nested(IFLA.AF_SPEC, ...families)]),
  ];
  return {
    type: RTM.NEWLINK,
    flags: 0,
    body: Buffer.concat(body),
    what: `set up the network interface ${name}`,
    tolerated,
  };
}

/** One that is not there is fine. */
export function deleteLink(name: string): Request {
  return {
    type: RTM.DELLINK,
    flags: 0,
    body: Buffer.concat([ifinfo(), text(IFLA.IFNAME, name)]),
    what: `remove the network interface ${name}`,
    tolerated: ['ENODEV'],
  };
}

/** An address that is used at once: nobody else can have it, so IPv6 does not look for a second one first. */
export function addAddress(index: number, address: string, prefix: number): Request {
  const bytes = addressBytes(address);
  const body = Buffer.alloc(8);
  body.writeUInt8(familyOf(address) === 4 ? AF_INET : AF_INET6, 0);
  body.writeUInt8(prefix, 1);
  body.writeUInt32LE(index, 4);
  const flags = familyOf(address) === 6 ? [u32(IFA.FLAGS, IFA_F_NODAD)] : [];
  return {
    type: RTM.NEWADDR,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: Buffer.concat([body, attr(IFA.LOCAL, bytes), attr(IFA.ADDRESS, bytes), ...flags]),
    what: `give the address ${address}/${prefix}`,
  };
}

export function getAddresses(): Request {
  return { type: RTM.GETADDR, flags: NLM_F_DUMP, body: Buffer.alloc(8), what: 'list the addresses' };
}

export interface InterfaceAddress {
  readonly index: number;
  readonly address: string;
  readonly prefix: number;
}

export function addressesOf(replies: readonly Reply[]): InterfaceAddress[] {
  return replies
    .filter(({ type, body }) => type === RTM.NEWADDR && [AF_INET, AF_INET6].includes(body.readUInt8(0)))
    .flatMap(({ body }) => {
      const found = attributes(body.subarray(8));
      const bytes = found.get(IFA.LOCAL) ?? found.get(IFA.ADDRESS);
      if (!bytes) return [];
      return [{ index: body.readUInt32LE(4), address: textOfBytes(bytes), prefix: body.readUInt8(1) }];
    });
}

/** A route by a gateway; `destination` is undefined for all addresses of the gateway's family. */
export function addRoute(index: number, destination: { first: string; prefix: number } | undefined, gateway: string) {
  const body = Buffer.alloc(12);
  body.writeUInt8(familyOf(gateway) === 4 ? AF_INET : AF_INET6, 0);
  body.writeUInt8(destination?.prefix ?? 0, 1);
  body.writeUInt8(RT_TABLE_MAIN, 4);
  body.writeUInt8(3, 5); // RTPROT_BOOT, as of all programs that set routes by hand
  body.writeUInt8(1, 7); // RTN_UNICAST
  const to = destination && destination.prefix > 0 ? [attr(RTA.DST, addressBytes(destination.first))] : [];
  return {
    type: RTM.NEWROUTE,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: Buffer.concat([body, ...to, attr(RTA.GATEWAY, addressBytes(gateway)), u32(RTA.OIF, index)]),
    what: `add the route to ${destination ? `${destination.first}/${destination.prefix}` : 'everywhere'} by ${gateway}`,
    tolerated: ['EEXIST'],
  } satisfies Request;
}

export function getRoutes(): Request {
  return { type: RTM.GETROUTE, flags: NLM_F_DUMP, body: Buffer.alloc(12), what: 'list the routes' };
}

export interface Route {
  /** undefined for the default route. */
  readonly destination: { readonly address: string; readonly prefix: number } | undefined;
  /** Of the interface. */
  readonly index: number;
}

/** Those of the main table. */
export function routesIn(replies: readonly Reply[]): Route[] {
  return replies
    .filter(({ type, body }) => type === RTM.NEWROUTE && body.readUInt8(4) === RT_TABLE_MAIN)
    .filter(({ body }) => [AF_INET, AF_INET6].includes(body.readUInt8(0)))
    .map(({ body }) => {
      const found = attributes(body.subarray(12));
      const to = found.get(RTA.DST);
      return {
        destination: to && { address: textOfBytes(to), prefix: body.readUInt8(1) },
        index: found.get(RTA.OIF)?.readUInt32LE(0) ?? 0,
      };
    });
}

/** What leaves by a link is held to a rate by a token bucket: tc-tbf(8). */
export function limitRate(index: number, bitsPerSecond: number, burstBytes: number): Request {
  const rate = Math.floor(bitsPerSecond / 8);
  const head = Buffer.alloc(20);
  head.writeInt32LE(index, 4);
  head.writeUInt32LE(0x10000, 8); // handle 1:
  head.writeUInt32LE(TC_H_ROOT, 12);
  const parms = Buffer.alloc(36);
  parms.writeUInt8(1, 1); // TC_LINKLAYER_ETHERNET
  parms.writeUInt32LE(Math.min(rate, 0xffffffff), 8);
  // What may wait in the queue: a quarter of a second's worth beside the burst.
  parms.writeUInt32LE(Math.min(Math.floor(rate / 4) + burstBytes, 0xffffffff), 24);
  const options = [attr(TCA_TBF.PARMS, parms), u64(TCA_TBF.RATE64, BigInt(rate)), u32(TCA_TBF.BURST, burstBytes)];
  return {
    type: RTM.NEWQDISC,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: Buffer.concat([head, text(TCA.KIND, 'tbf'), nested(TCA.OPTIONS, ...options)]),
    what: `limit the bandwidth to ${bitsPerSecond} bits a second`,
  };
}

function ifinfo(flags = 0, change = 0): Buffer {
  const body = Buffer.alloc(16);
  body.writeUInt32LE(flags, 8);
  body.writeUInt32LE(change, 12);
  return body;
}

function mtuOf(mtu: number): Buffer[] {
  return mtu === 0 ? [] : [u32(IFLA.MTU, mtu)];
}
