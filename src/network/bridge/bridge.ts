import { randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { BerthError } from '../../base/errors';
import { crashPoint } from '../../base/crash-points';
import { KeyedLock } from '../../base/keyed-lock';
import type { Logger } from '../../base/log';
import { addressBytes, addressText, familyOf, type Family } from '../addresses';
import {
  addAddress,
  addBridge,
  addPair,
  addRoute,
  changeLink,
  deleteLink,
  getLink,
  limitRate,
  linksIn,
  type Link,
} from '../netlink/link';
import { NetlinkError, type Netlink } from '../netlink/netlink';
import type { BridgeConfig } from './config';
import { forwardPackets, ignoreRouterAdvertisements } from './host-settings';
import type { Lease } from './lease';

/** How long a pod's interface may take to go with its namespace, before it is removed by itself. */
const LINGER_MS = 5_000;

/** One pod's place at a bridge. */
export interface Port {
  readonly podId: string;
  readonly namespacePath: string;
  readonly ifname: string;
  readonly leases: readonly Lease[];
}

/** The bridges of this host that pods are at. What is there is asked of the kernel, not remembered, but for what was set up once. */
export class Bridges {
  private readonly locks = new KeyedLock();
  /** By bridge: what this daemon has set up, and the index that it had. */
  private readonly ready = new Map<string, { key: string; index: number }>();
  private readonly lingering = new Set<string>();
  private removal: Promise<void> = Promise.resolve();

  constructor(
    private readonly netlink: Netlink,
    /** Whose bridges they are: two daemons of one host cannot share one. */
    private readonly owner: string,
    private readonly log: Logger,
  ) {}

  /** Connects a pod: a pair of interfaces, addresses, routes. */
  async connect(config: BridgeConfig, port: Port): Promise<void> {
    const name = linkName(port.podId);
    // A pod may come again before its old interface has gone.
    await this.removal;
    this.lingering.delete(name);
    try {
      await this.plug(config, port, name, await this.ensure(config));
    } catch (error) {
      // That interface, or a bridge that is another one by now, or gone.
      if (!(error instanceof NetlinkError) || !['EEXIST', 'EINVAL', 'ENODEV'].includes(error.code) || error.index !== 0)
        throw error;
      await this.netlink.route([deleteLink(name)]);
      this.ready.delete(config.bridge);
      await this.plug(config, port, name, await this.ensure(config));
    }
    crashPoint('bridge.plugged');
    await this.furnish(config, port);
    await this.limit(config, name);
  }

  /** The bridge with its addresses, made or completed where it was not yet by this daemon; its index. Refuses another one's. */
  async ensure(config: BridgeConfig): Promise<number> {
    const { bridge } = config;
    const key = JSON.stringify([config.mtu, config.isGateway, gatewaysOf(config)]);
    const known = this.ready.get(bridge);
    if (known?.key === key) return known.index;
    return this.locks.run(bridge, async () => {
      const done = this.ready.get(bridge);
      if (done?.key === key) return done.index;
      const index = await this.setUp(config);
      this.ready.set(bridge, { key, index });
      return index;
    });
  }

  /**
   * Disconnects a pod at once. Its interfaces go with its namespace, which nobody waits for: removing one takes the
   * kernel 20 ms. One that is still there later, since somebody holds the namespace, is removed then.
   */
  async disconnect(podId: string): Promise<void> {
    const name = linkName(podId);
    await this.netlink.route([changeLink(name, { isUp: false, master: 0 }, ['ENODEV'])]);
    if (this.lingering.size === 0) setTimeout(() => void (this.removal = this.removeLingering()), LINGER_MS).unref();
    this.lingering.add(name);
  }

  /** Removes what pods that are gone have left at any bridge; the bridges of this daemon's that are there. */
  async collect(isThere: (podId: string) => boolean): Promise<string[]> {
    const links = linksIn(await this.netlink.route([getLink()]));
    const left = links.filter(({ alias }) => {
      const podId = this.podIn(alias);
      return podId !== undefined && !isThere(podId);
    });
    for (const { name } of left) this.log.warn('removing the network interface of a pod that is gone', { link: name });
    await this.netlink.route(left.map(({ name }) => deleteLink(name)));
    return links.filter(({ name, alias }) => alias === this.aliasOf(name)).map(({ name }) => name);
  }

  /** Removes bridges that have no pods any more. One that a person had made before stays. */
  async remove(bridges: readonly string[]): Promise<void> {
    const links = linksIn(await this.netlink.route([getLink()]));
    const ours = bridges.filter(bridge =>
      links.some(({ name, alias }) => name === bridge && alias === this.aliasOf(bridge)),
    );
    await this.netlink.route([...this.lingering, ...ours].map(deleteLink));
    for (const bridge of ours) this.log.info('removed a bridge that no pod is at', { bridge });
  }

  /** Whether a pod's interface is there and up. */
  async isConnected(podId: string): Promise<boolean> {
    return (await this.find(linkName(podId)))?.isUp === true;
  }

  async find(name: string): Promise<Link | undefined> {
    return linksIn(await this.netlink.route([getLink(name)]))[0];
  }

  private async plug({ bridge, mtu, hairpin, portMappings }: BridgeConfig, port: Port, name: string, master: number) {
    const namespaceFd = openSync(port.namespacePath, 'r');
    try {
      const mac = macOf(port.leases);
      const alias = `${this.aliasOf(bridge)} ${port.podId}`;
      await this.netlink.route([
        addPair({ name, master, mtu, peer: { name: port.ifname, mac, namespaceFd } }),
        // By itself: a kernel that was started with ipv6.disable=1 refuses the whole message.
        changeLink(name, { withoutLinkLocal: true }, ['EAFNOSUPPORT']),
        changeLink(name, { isUp: true, alias, hairpin }),
        // Only for who needs it: the host's own connections to published ports come from 127.0.0.1.
        ...(portMappings.length > 0 ? [changeLink(bridge, { routeLocalnet: true })] : []),
      ]);
    } finally {
      closeSync(namespaceFd);
    }
  }

  /** The pod's end: what is done in its namespace. */
  private async furnish({ routes, bandwidth }: BridgeConfig, { namespacePath, ifname, leases }: Port): Promise<void> {
    const [link] = linksIn(await this.netlink.route([getLink(ifname)], namespacePath));
    if (!link) throw new BerthError('internal', `the pod's ${ifname} went as it was made`);
    const gatewayOf = (family: Family) => leases.find(({ gateway }) => familyOf(gateway) === family)?.gateway;
    const ways = routes.flatMap(({ to, gateway = gatewayOf(to.family) }) =>
      gateway === undefined
        ? []
        : [addRoute(link.index, { first: addressText(to.family, to.first), prefix: to.prefix }, gateway)],
    );
    const { egressRate = 0, egressBurst = 0 } = bandwidth ?? {};
    await this.netlink.route(
      [
        ...leases.map(({ address, prefix }) => addAddress(link.index, address, prefix)),
        changeLink(ifname, { isUp: true }),
        ...ways,
        ...(egressRate > 0 ? [limitRate(link.index, egressRate, burstBytes(egressRate, egressBurst))] : []),
      ],
      namespacePath,
    );
  }

  /** What comes to the pod is what leaves the host's end. */
  private async limit({ bandwidth }: BridgeConfig, name: string): Promise<void> {
    const { ingressRate = 0, ingressBurst = 0 } = bandwidth ?? {};
    if (ingressRate === 0) return;
    const link = await this.find(name);
    if (!link) throw new BerthError('internal', `network interface ${name} went as it was made`);
    await this.netlink.route([limitRate(link.index, ingressRate, burstBytes(ingressRate, ingressBurst))]);
  }

  private async setUp(config: BridgeConfig): Promise<number> {
    const { bridge, isGateway } = config;
    const found = await this.find(bridge);
    if (found) this.assertOurs(found);
    const link = found ?? (await this.make(config));
    // Before it is up: a router that is quicker would be heard.
    await ignoreRouterAdvertisements(bridge);
    const gateways = isGateway ? gatewaysOf(config) : [];
    await this.netlink.route([
      changeLink(bridge, { isUp: true }),
      ...gateways.map(({ gateway, prefix }) => addAddress(link.index, gateway, prefix)),
    ]);
    if (isGateway) await forwardPackets(new Set(gateways.map(({ gateway }) => familyOf(gateway))), this.log);
    return link.index;
  }

  private async make({ bridge, mtu }: BridgeConfig): Promise<Link> {
    const mac = randomBytes(6);
    mac[0] = ((mac[0] ?? 0) & 0xfe) | 0x02; // one station's, and of nobody's making
    await this.netlink.route([addBridge(bridge, mac, mtu), changeLink(bridge, { alias: this.aliasOf(bridge) })]);
    crashPoint('bridge.made');
    const made = await this.find(bridge);
    if (!made) throw new BerthError('unavailable', `the bridge ${bridge} went as it was made`);
    this.log.info('made a bridge for pods', { bridge });
    return made;
  }

  private assertOurs({ name, kind, alias }: Link): void {
    if (kind !== 'bridge')
      throw new BerthError('failed_precondition', `network interface ${name} is there and is no bridge`, {
        hint: 'choose another name for the bridge of pods',
      });
    if (!alias.startsWith('berth ') || alias === this.aliasOf(name)) return;
    throw new BerthError('failed_precondition', `the bridge ${name} is another berth daemon's: "${alias}"`, {
      hint: 'choose another name for this one: network.bridge',
    });
  }

  private aliasOf(bridge: string): string {
    return bridgeAlias(this.owner, bridge);
  }

  /** Whose interface this is, if it is a pod's of this daemon. */
  private podIn(alias: string): string | undefined {
    const prefix = `berth ${this.owner} `;
    return alias.startsWith(prefix) ? /^\S+ (\S+)$/.exec(alias.slice(prefix.length))?.[1] : undefined;
  }

  private async removeLingering(): Promise<void> {
    const names = [...this.lingering];
    this.lingering.clear();
    try {
      await this.netlink.route(names.map(deleteLink));
    } catch (error) {
      this.log.warn('network interfaces of pods that are gone were not removed', { cause: String(error) });
    }
  }
}

/** How a daemon's bridges are marked. */
export function bridgeAlias(owner: string, bridge: string): string {
  return `berth ${owner} ${bridge}`;
}

/** The host's end of a pod's pair: as much of the id as a name holds. */
export function linkName(podId: string): string {
  return `berth${podId.slice(0, 10)}`;
}

/** The same for the same address: nobody's neighbour table is wrong when a pod gets what another had. */
function macOf(leases: readonly Lease[]): Buffer {
  const [lease] = leases;
  const bytes = lease ? addressBytes(lease.address) : randomBytes(4);
  return Buffer.concat([Buffer.of(0x0a, 0x58), bytes.subarray(bytes.length - 4)]);
}

export function macText(leases: readonly Lease[]): string {
  return (macOf(leases).toString('hex').match(/../g) ?? []).join(':');
}

function gatewaysOf({ ranges }: BridgeConfig): { gateway: string; prefix: number }[] {
  return ranges.flat().map(({ gateway, subnet }) => ({ gateway, prefix: subnet.prefix }));
}

/** A tenth of a second's worth, or less if asked for, but never less than what a large packet takes. */
function burstBytes(rate: number, wishedBits: number): number {
  const most = wishedBits > 0 ? Math.floor(wishedBits / 8) : Infinity;
  return Math.min(Math.max(Math.min(Math.floor(rate / 80), most), 128 * 1024), 0x7fffffff);
}
