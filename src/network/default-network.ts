import { BerthError } from '../base/errors';
import { KeyedLock } from '../base/keyed-lock';
import type { Logger } from '../base/log';
import { SingleFlight } from '../base/single-flight';
import { overlap, parseSubnet, subnetOf, subnetText, type Subnet } from './addresses';
import { bridgeAlias } from './bridge/bridge';
import { BERTH_BRIDGE } from './bridge/config';
import type { NetworkList } from './cni/config';
import { addressesOf, getAddresses, getLink, getRoutes, linksIn, routesIn, type Link } from './netlink/link';
import { Netlink, type NetlinkCall } from './netlink/netlink';

/** What is kept of the network of this node, in one record. */
export interface NetworkSettings {
  readonly version: 1;
  /** As the kubelet told last. */
  readonly podCidrs: readonly string[];
  /** The range that was found free on this host; absent until one was needed. */
  readonly range?: string;
}

export interface DefaultNetworkOptions {
  readonly embedded: 'all' | 'people' | 'none';
  /** Empty for one that no other daemon has. */
  readonly bridge: string;
  readonly ranges: readonly string[];
  readonly masquerade: boolean;
  readonly mtu: number;
  readonly settings: {
    get(key: string): NetworkSettings | undefined;
    put(key: string, settings: NetworkSettings): Promise<void>;
  };
}

/** Of the host: a range that is free, or empty where none was needed, and what its interfaces should have, 0 for as usual. */
interface Found {
  readonly bridge: string;
  readonly range: string;
  readonly mtu: number;
}

const NAME = 'berth';
const KEY = 'node';
const USUAL_MTU = 1500;
/** Of the smallest packets that IPv6 has. */
const LEAST_MTU = 1280;

/** Private ranges that few people use, for a host where nothing is said. */
const FIRST = '10.88.0.0/16';
const CANDIDATES = [
  ...Array.from({ length: 8 }, (_, i) => `10.${88 + i}.0.0/16`),
  ...Array.from({ length: 8 }, (_, i) => `172.${24 + i}.0.0/16`),
  ...Array.from({ length: 8 }, (_, i) => `192.168.${88 + i}.0/24`),
];

function bridgeName(number: number): string {
  return `berth${number}`;
}

/** The network that berth brings where no file has one: pods on a bridge of this host. */
export class DefaultNetwork {
  private readonly netlink: Netlink;
  private readonly locks = new KeyedLock();
  private readonly searches = new SingleFlight<Found>();
  private found: Found | undefined;
  private settings: NetworkSettings;

  constructor(
    private readonly options: DefaultNetworkOptions,
    netlink: NetlinkCall,
    private readonly owner: string,
    private readonly log: Logger,
  ) {
    this.netlink = new Netlink(netlink);
    this.settings = options.settings.get(KEY) ?? { version: 1, podCidrs: [] };
  }

  get podCidrs(): readonly string[] {
    return this.settings.podCidrs;
  }

  /** The kubelet says it when it starts, not when this daemon does. */
  async setPodCidrs(podCidrs: readonly string[]): Promise<void> {
    await this.keep({ podCidrs });
    this.found = undefined; // the range may be among them now
  }

  /** Of the host something may be otherwise by now: it is looked at anew for the next pod. */
  forget(): void {
    this.found = undefined;
  }

  isFor(owner: 'cri' | 'person'): boolean {
    const { embedded } = this.options;
    return embedded === 'all' || (embedded === 'people' && owner === 'person');
  }

  /** For the next pod, which gets it: what was found free on this host stays chosen. */
  async network(): Promise<NetworkList> {
    const { chosen } = this;
    const needsRange = chosen.length === 0;
    const { range, ...host } =
      this.known(needsRange) ?? (await this.searches.run(String(needsRange), () => this.choose(needsRange)));
    return this.listOf(needsRange ? [range] : chosen, host);
  }

  /** As the next pod would get it now; nothing is chosen yet. */
  async preview(): Promise<NetworkList> {
    const { chosen } = this;
    const needsRange = chosen.length === 0;
    const { range, ...host } = this.known(needsRange) ?? (await this.search(needsRange));
    return this.listOf(needsRange ? [range] : chosen, host);
  }

  /** The same for those who ask about it: nothing is looked for yet, so the range may become another one. */
  outline(): NetworkList {
    const { chosen } = this;
    return this.listOf(chosen.length > 0 ? chosen : [this.settings.range ?? FIRST], { bridge: bridgeName(0), mtu: 0 });
  }

  /** What somebody has said the ranges are; empty when nobody has. */
  private get chosen(): readonly string[] {
    const { ranges, embedded } = this.options;
    if (ranges.length > 0) return ranges;
    // Where pods of the kubelet have a plugin, the pod CIDR is that plugin's.
    return embedded === 'all' ? this.podCidrs : [];
  }

  private listOf(ranges: readonly string[], host: { bridge: string; mtu: number }): NetworkList {
    const { bridge, masquerade, mtu } = this.options;
    const raw = {
      bridge: bridge === '' ? host.bridge : bridge,
      ranges: ranges.map(subnet => [{ subnet }]),
      ipMasq: masquerade,
      mtu: mtu === 0 ? host.mtu : mtu,
    };
    const capabilities = { portMappings: true, bandwidth: true };
    return {
      name: NAME,
      version: '1.1.0',
      plugins: [{ type: BERTH_BRIDGE, capabilities, raw }],
      disableCheck: false,
      disableGC: false,
      file: '',
    };
  }

  /** What was chosen, if it is enough. */
  private known(needsRange: boolean): Found | undefined {
    return this.found && (this.found.range !== '' || !needsRange) ? this.found : undefined;
  }

  private async choose(needsRange: boolean): Promise<Found> {
    const { podCidrs } = this;
    const found = await this.search(needsRange);
    const { range } = found;
    if (range !== '' && range !== this.settings.range) {
      this.log.info('chose a range of addresses for pods, to which the host has no route', { range });
      await this.keep({ range });
    }
    if (podCidrs === this.podCidrs) this.found = found;
    return found;
  }

  /** The MTU of this host, and a free range where one is needed. */
  private async search(needsRange: boolean): Promise<Found> {
    const links = linksIn(await this.netlink.route([getLink()]));
    const bridge = this.options.bridge === '' ? this.chooseBridge(links) : this.options.bridge;
    const own = links.find(({ name }) => name === bridge)?.index;
    const routes = routesIn(await this.netlink.route([getRoutes()]));
    const addresses = addressesOf(await this.netlink.route([getAddresses()]));
    const way = routes.find(({ destination, index }) => !destination && index !== own);
    const uplink = links.find(({ index }) => index === way?.index)?.mtu ?? USUAL_MTU;
    const mtu = uplink === USUAL_MTU || uplink < LEAST_MTU ? 0 : uplink;
    if (!needsRange) return { bridge, range: '', mtu };
    const ofHost = [
      ...routes.flatMap(({ destination, index }) => (destination && index !== own ? [destination] : [])),
      ...addresses.filter(({ index }) => index !== own),
    ].map(({ address, prefix }) => `${address}/${prefix}`);
    const taken = [...ofHost, ...this.podCidrs].flatMap(text => parseSubnet(text) ?? []);
    return { bridge, range: this.freeRange(taken), mtu };
  }

  /** Its own, whatever number that has, or the first that nobody has. */
  private chooseBridge(links: readonly Link[]): string {
    const own = links.find(({ name, alias }) => /^berth\d+$/.test(name) && alias === bridgeAlias(this.owner, name));
    if (own) return own.name;
    const names = new Set(links.map(({ name }) => name));
    for (let number = 0; ; number++) if (!names.has(bridgeName(number))) return bridgeName(number);
  }

  /** The one of last time, if it is free still: a host may have been moved to another network. */
  private freeRange(taken: readonly Subnet[]): string {
    const { range: last } = this.settings;
    const candidates = (last === undefined ? CANDIDATES : [last, ...CANDIDATES]).map(text => subnetOf(text, 'range'));
    const free = candidates.find(candidate => !taken.some(other => overlap(candidate, other)));
    if (!free)
      throw new BerthError('failed_precondition', 'the host has routes to all ranges that berth knows for pods', {
        hint: 'name one in network.ranges',
      });
    return subnetText(free);
  }

  /** One change after the other: the kubelet tells, and the first pod comes, at the same time. */
  private async keep(change: Partial<NetworkSettings>): Promise<void> {
    await this.locks.run(KEY, async () => {
      const settings = { ...this.settings, ...change };
      await this.options.settings.put(KEY, settings);
      this.settings = settings;
    });
  }
}
