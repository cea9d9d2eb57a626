import { BerthError, messageOf } from '../../base/errors';
import { crashPoint } from '../../base/crash-points';
import type { Logger } from '../../base/log';
import { together } from '../../base/rollback';
import { familyOf, subnetText, type Subnet } from '../addresses';
import type { Attachment, BuiltInPlugin, CniCommand } from '../cni/plugin';
import type { CniResult } from '../cni/result';
import { probeKind } from '../netlink/link';
import { Netlink, NetlinkError, type NetlinkCall } from '../netlink/netlink';
import { chainIn, getChain, probe } from '../netlink/nftables';
import { Bridges, linkName, macText } from './bridge';
import { BERTH_BRIDGE, readBridgeConfig, type BridgeConfig, type PortMapping } from './config';
import { forgetFlows } from './flows';
import { HostFirewall } from './host-firewall';
import type { Lease } from './lease';
import { BridgeTable, type PublishedPod, type TableContent } from './table';

/** What a kernel without a part says. */
const MISSING = ['ENOTSUP', 'EAFNOSUPPORT'];

/** A pod whose record has addresses of a bridge. */
export interface BridgedPod {
  readonly id: string;
  readonly config: BridgeConfig;
  readonly leases: readonly Lease[];
}

export interface BerthBridgeOptions {
  readonly netlink: NetlinkCall;
  /** Which daemon this is, among others of the same host. */
  readonly owner: string;
  readonly log: Logger;
  /** Pods by their records, now. */
  readonly pods: () => readonly BridgedPod[];
}

/** The network plugin that is part of the daemon: bridge, addresses, masquerading and published ports, by netlink alone. */
export class BerthBridge implements BuiltInPlugin {
  private readonly netlink: Netlink;
  private readonly bridges: Bridges;
  private readonly firewall: HostFirewall;
  private readonly tables = new Map<string, BridgeTable>();
  /** Pods whose ports have been withdrawn, and whose records do not say so yet. */
  private readonly leaving = new Set<string>();
  private isKernelFine = false;

  constructor(private readonly options: BerthBridgeOptions) {
    this.netlink = new Netlink(options.netlink);
    this.bridges = new Bridges(this.netlink, options.owner, options.log);
    this.firewall = new HostFirewall(this.netlink, options.owner, options.log);
  }

  async run(
    command: CniCommand,
    network: string,
    document: object,
    attachment?: Attachment,
  ): Promise<CniResult | undefined> {
    const what = `CNI ${command} of network ${JSON.stringify(network)}`;
    try {
      return await this.runNow(command, document, attachment);
    } catch (error) {
      if (error instanceof NetlinkError && MISSING.includes(error.code)) throw withoutKernel(what, error);
      const kind = error instanceof BerthError ? error.kind : 'internal';
      throw new BerthError(kind, `${what}: ${messageOf(error)}`, { cause: error });
    }
  }

  private async runNow(command: CniCommand, document: object, attachment?: Attachment): Promise<CniResult | undefined> {
    if (command === 'STATUS') return this.status(document);
    if (command === 'GC') return this.collect();
    if (!attachment) throw new BerthError('internal', `${command} without a pod`);
    // Whatever was wrong with the configuration by now: what was made has to go.
    if (command === 'DEL') return this.remove(attachment);
    const config = readBridgeConfig(document);
    return command === 'ADD' ? this.add(config, attachment) : this.check(attachment);
  }

  private async add(config: BridgeConfig, attachment: Attachment): Promise<CniResult> {
    const { containerId: podId, netns, ifname, leases = [] } = attachment;
    this.leaving.delete(podId); // a pod may come again
    // Before there are rules for it: the bridge may be another daemon's.
    await this.bridges.ensure(config);
    await together([
      this.bridges.connect(config, { podId, namespacePath: netns, ifname, leases }),
      this.publish(config, leases).then(() => crashPoint('bridge.published')),
    ]);
    return resultOf(config, attachment, leases);
  }

  private async publish(config: BridgeConfig, leases: readonly Lease[]): Promise<void> {
    const { bridge } = config;
    const table = this.table(bridge);
    const pod = publishedPod(config.portMappings, leases);
    const content = () => this.content(bridge, config);
    const isThere = await this.isThere(table);
    await together([
      isThere && table.hasRules(content()) ? table.publish(pod, content) : table.write(content),
      this.firewall.allow(bridge),
    ]);
    await this.forget(pod);
  }

  private async remove({ containerId: podId }: Attachment): Promise<undefined> {
    this.prune();
    this.leaving.add(podId);
    const pod = this.options.pods().find(({ id }) => id === podId);
    const published = pod && publishedPod(pod.config.portMappings, pod.leases);
    await together([
      this.bridges.disconnect(podId).then(() => crashPoint('bridge.unplugged')),
      pod && published && published.portMappings.length > 0
        ? this.table(pod.config.bridge)
            .withdraw(published)
            .then(() => crashPoint('bridge.withdrawn'))
        : Promise.resolve(),
    ]);
    if (published) await this.forget(published);
    return undefined;
  }

  private async check({ containerId }: Attachment): Promise<undefined> {
    if (await this.bridges.isConnected(containerId)) return undefined;
    throw new BerthError('failed_precondition', `network interface ${linkName(containerId)} is not there, or down`);
  }

  /** Whether a pod could be connected now. */
  private async status(document: object): Promise<undefined> {
    readBridgeConfig(document);
    if (this.isKernelFine) return undefined;
    await this.netlink.netfilter([probe()]);
    await this.netlink.route([probeKind('bridge'), probeKind('veth')]);
    this.isKernelFine = true;
    return undefined;
  }

  /** After a start: the kernel is brought to what the records say, at all bridges of this daemon's. */
  private async collect(): Promise<undefined> {
    const found = await this.bridges.collect(podId => this.options.pods().some(({ id }) => id === podId));
    const bridges = new Set([...found, ...this.options.pods().map(({ config }) => config.bridge)]);
    for (const bridge of bridges) await this.restore(bridge);
    return undefined;
  }

  private async restore(bridge: string): Promise<void> {
    const table = this.table(bridge);
    const isInUse = this.options.pods().some(({ config }) => config.bridge === bridge);
    if (!isInUse && !(await this.isThere(table))) return;
    await together([table.write(() => this.content(bridge)), ...(isInUse ? [this.firewall.allow(bridge)] : [])]);
  }

  private async isThere({ table }: BridgeTable): Promise<boolean> {
    return chainIn(await this.netlink.netfilter([getChain(table, 'outbound')])) !== undefined;
  }

  /** Takes bridges without pods away, with their tables and what the host's firewall has for them. */
  async close(): Promise<void> {
    const inUse = new Set(this.options.pods().map(({ config }) => config.bridge));
    const idle = [...this.tables].filter(([bridge]) => !inUse.has(bridge));
    try {
      for (const [, table] of idle) await table.remove();
      await this.bridges.remove(idle.map(([bridge]) => bridge));
      for (const [bridge] of idle) await this.firewall.withdraw(bridge);
    } catch (error) {
      this.options.log.warn(`a bridge that no pod needs stays: ${messageOf(error)}`);
    }
  }

  /** What the table of a bridge is to be, by the records; `config` is of a network that may have no pod yet. */
  private content(bridge: string, config?: BridgeConfig): TableContent {
    const pods = this.options.pods().filter(pod => pod.config.bridge === bridge && !this.leaving.has(pod.id));
    const subnets = new Map<string, { subnet: Subnet; masquerade: boolean }>();
    for (const { ranges, masquerade } of [...pods.map(pod => pod.config), ...(config ? [config] : [])])
      for (const { subnet } of ranges.flat())
        subnets.set(`${subnetText(subnet)} ${masquerade}`, { subnet, masquerade });
    return {
      subnets: [...subnets.values()],
      pods: pods.map(pod => publishedPod(pod.config.portMappings, pod.leases)),
    };
  }

  private table(bridge: string): BridgeTable {
    const table = this.tables.get(bridge) ?? new BridgeTable(this.netlink, bridge, this.options.owner);
    this.tables.set(bridge, table);
    return table;
  }

  /** A record that is gone needs no note any more. */
  private prune(): void {
    const known = new Set(this.options.pods().map(({ id }) => id));
    for (const id of this.leaving) if (!known.has(id)) this.leaving.delete(id);
  }

  /** Flows of UDP go where they went before, whatever the rules say now. */
  private async forget({ portMappings, addresses }: PublishedPod): Promise<void> {
    const ports = portMappings.filter(({ protocol }) => protocol === 'udp').map(({ hostPort }) => hostPort);
    await forgetFlows(this.netlink, ports, addresses.map(familyOf), this.options.log);
  }
}

function publishedPod(portMappings: readonly PortMapping[], leases: readonly Lease[]): PublishedPod {
  return { portMappings, addresses: leases.map(({ address }) => address) };
}

function resultOf(
  { bridge, routes, cniVersion }: BridgeConfig,
  attachment: Attachment,
  leases: readonly Lease[],
): CniResult {
  const { containerId, ifname, netns } = attachment;
  const isOld = /^0\./.test(cniVersion);
  return {
    cniVersion,
    interfaces: [
      { name: bridge },
      { name: linkName(containerId) },
      { name: ifname, mac: macText(leases), sandbox: netns },
    ],
    ips: leases.map(({ address, prefix, gateway }) => ({
      ...(isOld ? { version: address.includes(':') ? '6' : '4' } : {}),
      address: `${address}/${prefix}`,
      gateway,
      interface: 2,
    })),
    routes: routes.map(({ to, gateway }) => ({
      dst: subnetText(to),
      ...(gateway === undefined ? {} : { gw: gateway }),
    })),
    dns: {},
  };
}

function withoutKernel(what: string, error: NetlinkError): BerthError {
  return new BerthError('failed_precondition', `${what}: ${error.message}`, {
    cause: error,
    hint: `the plugin ${BERTH_BRIDGE} needs a kernel with bridge, veth and nftables (CONFIG_BRIDGE, CONFIG_VETH, CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_FIB_INET)`,
  });
}
