import { Context } from '../base/context';
import { BerthError, messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import { SingleFlight } from '../base/single-flight';
import type { PodSandboxConfig } from '../cri';
import { BERTH_BRIDGE, readBridgeConfig, type BridgeConfig } from './bridge/config';
import { assertPortsFree, assertPortsLead, Leases, type Held, type Lease } from './bridge/lease';
import { BerthBridge, type BridgedPod } from './bridge/plugin';
import { findNetwork, type NetworkList } from './cni/config';
import {
  addNetwork,
  assertInstalled,
  checkNetwork,
  collectNetwork,
  configOf,
  deleteNetwork,
  networkReady,
  type RuntimeConfig,
} from './cni/operations';
import type { Attachment, PluginHost, RunProgram } from './cni/plugin';
import { DefaultNetwork, type DefaultNetworkOptions } from './default-network';
import type { NetlinkCall } from './netlink/netlink';
import { addressesIn, type CniResult } from './cni/result';
import { runtimeConfigOf } from './runtime-config';

/** The name of the interface in the pod, as everywhere in Kubernetes. */
const IFNAME = 'eth0';

/** How long a word of the plugins' on whether they can work is good for. */
const STATUS_GOOD_MS = 5_000;

/** How long DEL may take for all plugins of a network together, besides each one's own limit. */
const DETACH_WITHIN_MS = 120_000;

/**
 * What a pod's record keeps of its network. Written before ADD, so that DEL is
 * never missed, with the network as it was then: its file may be another one, or
 * gone, when the pod ends.
 */
export interface PodAttachment {
  readonly network: NetworkList;
  readonly ifname: string;
  readonly args: string;
  readonly runtimeConfig: RuntimeConfig;
  /** Absent until ADD has succeeded. */
  readonly result?: CniResult;
  /** The pod's addresses, the main one first. */
  readonly ips: readonly string[];
  /** Addresses of berth's own bridge. They are the pod's as long as its record says so. */
  readonly leases?: readonly Lease[];
}

/** A pod with its network, as its record has it. */
export interface NetworkedPod {
  readonly id: string;
  readonly attachment: PodAttachment;
}

export interface NetworkStatus {
  readonly isReady: boolean;
  /** One CamelCase word for programs. */
  readonly reason: string;
  /** A sentence for people. */
  readonly message: string;
}

/** A network as it is shown. */
export interface NetworkDescription {
  readonly network: NetworkList;
  readonly isCurrent: boolean;
  /** Of berth's own plugin. */
  readonly bridge: BridgeConfig | undefined;
  readonly pods: readonly NetworkedPod[];
}

const NO_ATTACHMENT = { ifname: IFNAME, args: '', runtimeConfig: {}, ips: [] };

export interface PodNetworkOptions {
  readonly configDir: string;
  readonly binDirs: readonly string[];
  readonly timeoutMs: number;
  readonly run: RunProgram;
  readonly netlink: NetlinkCall;
  /** Which daemon this is, among those of the host: its root directory. */
  readonly owner: string;
  /** The network of pods where no file has one. */
  readonly byDefault: DefaultNetworkOptions;
  readonly log: Logger;
}

/** Networks of pods by CNI. The configuration is read whenever it is needed: what a person changes holds for the next pod. */
export class PodNetwork {
  private readonly host: PluginHost;
  private readonly looks = new SingleFlight<NetworkStatus>();
  private last: { status: NetworkStatus; network: string; at: number } | undefined;
  private readonly bridge: BerthBridge;
  private readonly leases = new Leases();
  private readonly byDefault: DefaultNetwork;
  /** Pods by their records; nobody has a network before there are any. */
  private pods: () => readonly NetworkedPod[] = () => [];
  /** A record's attachment never changes: it is replaced. */
  private readonly bridged = new WeakMap<PodAttachment, BridgeConfig | undefined>();

  constructor(private readonly options: PodNetworkOptions) {
    const { run, binDirs, timeoutMs, netlink, owner, log } = options;
    this.bridge = new BerthBridge({ netlink, owner, log, pods: () => this.bridgedPods() });
    this.host = { run, binDirs, timeoutMs, builtIn: new Map([[BERTH_BRIDGE, this.bridge]]) };
    this.byDefault = new DefaultNetwork(options.byDefault, netlink, owner, log);
  }

  /** Who has which addresses and ports is what the pods' records say. */
  knows(pods: () => readonly NetworkedPod[]): void {
    this.pods = pods;
  }

  /** Of the node, from the kubelet, which says it once: it is kept. Networks with the capability `ipRanges` hear of it. */
  async setPodCidrs(cidrs: readonly string[]): Promise<void> {
    await this.byDefault.setPodCidrs(cidrs);
  }

  /** What ADD for this pod will be; undefined where there is no network, and pods have their loopback alone. */
  async plan(id: string, config: PodSandboxConfig, owner: 'cri' | 'person'): Promise<PodAttachment | undefined> {
    const network =
      (await this.configured()) ?? (this.byDefault.isFor(owner) ? await this.byDefault.network() : undefined);
    if (!network) return withoutNetwork(config, this.options.configDir);
    await assertInstalled(this.host, network);
    return {
      network,
      ifname: IFNAME,
      args: cniArgs(id, config),
      runtimeConfig: runtimeConfigOf(config, this.byDefault.podCidrs),
      ips: [],
    };
  }

  /**
   * The plan with the addresses that the pod gets, if they are berth's to give. They are the pod's from the moment that
   * its record is there: between this call and that one nothing may wait.
   */
  lease(planned: PodAttachment): PodAttachment {
    const config = bridgeConfigOf(planned);
    if (!config) return planned;
    assertPortsLead(config);
    const held = this.held();
    assertPortsFree(config.portMappings, held);
    return { ...planned, leases: this.leases.take(config, held) };
  }

  /** Addresses and ports of the host's that pods have. */
  held(): Held {
    const pods = this.bridgedPods();
    return {
      // Of all records, also of those whose network this version could not read.
      addresses: new Set(
        this.pods().flatMap(({ attachment: { leases = [] } }) => leases.map(({ address }) => address)),
      ),
      ports: pods.flatMap(({ id, config }) => config.portMappings.map(mapping => ({ ...mapping, pod: id }))),
    };
  }

  /** The network that the next pod would get; undefined where there is none. Throws what is wrong with the files. */
  async find(owner: 'cri' | 'person'): Promise<NetworkList | undefined> {
    return (await this.configured()) ?? (this.byDefault.isFor(owner) ? this.byDefault.preview() : undefined);
  }

  /** That of the files, which comes first. */
  private async configured(): Promise<NetworkList | undefined> {
    const { network, complaints } = await findNetwork(this.options.configDir);
    for (const complaint of complaints) this.options.log.warn(complaint);
    if (network) return network;
    if (complaints[0] !== undefined)
      throw new BerthError('failed_precondition', `no network for the pod: ${complaints[0]}`);
    return undefined;
  }

  /** ADD; the attachment with its result. */
  async attach(ctx: Context, id: string, netns: string, planned: PodAttachment): Promise<PodAttachment> {
    const { network, runtimeConfig } = planned;
    const result = await addNetwork(ctx, this.host, network, attachmentOf(id, netns, planned), runtimeConfig).catch(
      (error: unknown) => {
        this.byDefault.forget(); // another daemon may have taken the bridge that nobody had
        throw error;
      },
    );
    const ips = addressesIn(result, planned.ifname);
    return { ...planned, result, ips };
  }

  /** DEL. `netns` is empty when the namespace is gone. Idempotent; also for an ADD that failed half-way. */
  async detach(log: Logger, id: string, netns: string, attachment: PodAttachment): Promise<void> {
    const { network, runtimeConfig, result } = attachment;
    const ctx = Context.of(log, { timeoutMs: DETACH_WITHIN_MS });
    await ctx.race(deleteNetwork(ctx, this.host, network, attachmentOf(id, netns, attachment), runtimeConfig, result));
  }

  /** CHECK: throws what is not as ADD has left it, and how it is now. */
  async check(ctx: Context, id: string, netns: string, attachment: PodAttachment): Promise<void> {
    const { network, runtimeConfig, result } = attachment;
    if (!result)
      throw new BerthError('failed_precondition', `network ${JSON.stringify(network.name)} was never set up`);
    await ctx.race(checkNetwork(ctx, this.host, network, attachmentOf(id, netns, attachment), runtimeConfig, result));
  }

  /** Gives back whatever plugins hold for pods that are not among these; for networks that know how. */
  async collect(): Promise<void> {
    const pods = this.pods();
    const networks = new Map(pods.map(({ attachment }) => [attachment.network.name, attachment.network]));
    const { network: configured } = await findNetwork(this.options.configDir);
    const present = configured ?? (this.byDefault.isFor('person') ? this.byDefault.outline() : undefined);
    if (present) networks.set(present.name, present);
    for (const network of networks.values()) {
      const valid = pods
        .filter(({ attachment }) => attachment.network.name === network.name)
        .map(({ id, attachment }) => ({ containerID: id, ifname: attachment.ifname }));
      await collectNetwork(this.host, network, valid);
    }
  }

  /** At the daemon's end: what no pod needs any more is taken away. Pods that are there keep all that they have. */
  async close(): Promise<void> {
    await this.bridge.close();
  }

  /** The next person's network, if there is one, and those that pods are on. */
  async describe(): Promise<NetworkDescription[]> {
    const current = await this.find('person');
    const networks = new Map<string, NetworkList>();
    for (const { attachment } of this.pods()) networks.set(attachment.network.name, attachment.network);
    if (current) networks.set(current.name, current);
    return [...networks.values()]
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .map(network => ({
        network,
        isCurrent: network === current,
        bridge: tolerantly(() => bridgeConfigOf({ ...NO_ATTACHMENT, network })),
        pods: this.pods().filter(({ attachment }) => attachment.network.name === network.name),
      }));
  }

  /** Whether a pod would get a network now; what plugins say of it is asked every few seconds at most. */
  async status(): Promise<NetworkStatus> {
    const { configDir } = this.options;
    const { network: configured, complaints } = await findNetwork(configDir);
    if (!configured && complaints[0] !== undefined) return notReady(complaints[0]);
    if (!configured && !this.byDefault.isFor('cri'))
      return notReady(
        `${configDir} holds no network configuration; a network plugin puts one there when it is set up (for a node without any there is network.embedded = "all")`,
      );
    const network = configured ?? this.byDefault.outline();
    const key = JSON.stringify(network);
    if (this.last && this.last.network === key && Date.now() - this.last.at < STATUS_GOOD_MS) return this.last.status;
    return this.looks.run(key, async () => {
      const status = await this.ask(network);
      this.last = { status, network: key, at: Date.now() };
      return status;
    });
  }

  private async ask(network: NetworkList): Promise<NetworkStatus> {
    try {
      await networkReady(this.host, network);
      return network.file === '' ? this.readyByDefault(network) : { isReady: true, reason: '', message: '' };
    } catch (error) {
      return notReady(messageOf(error));
    }
  }

  private readyByDefault({ name }: NetworkList): NetworkStatus {
    const { configDir } = this.options;
    const message = `${configDir} holds no network configuration, so pods are on a bridge of berth's own (network ${name})`;
    return { isReady: true, reason: 'BerthBridge', message };
  }

  private bridgedPods(): BridgedPod[] {
    return this.pods().flatMap(({ id, attachment }) => {
      const { leases } = attachment;
      if (!leases) return [];
      if (!this.bridged.has(attachment))
        this.bridged.set(
          attachment,
          tolerantly(() => bridgeConfigOf(attachment)),
        );
      const config = this.bridged.get(attachment);
      return config ? [{ id, config, leases }] : [];
    });
  }
}

/** Of the plugin that is berth's own, if the network has it; throws what is wrong with it. */
function bridgeConfigOf({ network, runtimeConfig }: PodAttachment): BridgeConfig | undefined {
  const [plugin, another] = network.plugins.filter(({ type }) => type === BERTH_BRIDGE);
  if (!plugin) return undefined;
  if (another || network.plugins[0] !== plugin)
    throw new BerthError(
      'failed_precondition',
      `network ${JSON.stringify(network.name)}: ${BERTH_BRIDGE} makes the pod's interface: it is the first plugin, and once`,
    );
  return readBridgeConfig(configOf(network, plugin, runtimeConfig, undefined));
}

function tolerantly<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

/** A port that nobody maps would be a silent hole; where there is a network, it may be mapped without a plugin's capability. */
function withoutNetwork({ portMappings }: PodSandboxConfig, configDir: string): undefined {
  const mapped = portMappings.find(({ hostPort }) => hostPort > 0);
  if (mapped)
    throw new BerthError(
      'failed_precondition',
      `port_mappings: host port ${mapped.hostPort} leads nowhere: ${configDir} holds no network configuration`,
      { hint: 'configure a network, or use the host network' },
    );
  return undefined;
}

function notReady(message: string): NetworkStatus {
  return { isReady: false, reason: 'NetworkPluginNotReady', message };
}

function attachmentOf(containerId: string, netns: string, { ifname, args, leases }: PodAttachment): Attachment {
  return { containerId, netns, ifname, args, leases };
}

/** Who the pod is, for plugins that ask the API server about it. */
function cniArgs(id: string, { metadata }: PodSandboxConfig): string {
  const { namespace = '', name = '', uid = '' } = metadata ?? {};
  const pairs = [
    ['IgnoreUnknown', '1'],
    ['K8S_POD_NAMESPACE', namespace],
    ['K8S_POD_NAME', name],
    ['K8S_POD_INFRA_CONTAINER_ID', id],
    ['K8S_POD_UID', uid],
  ];
  return pairs
    .map(([key, value = '']) => {
      if (/[;=\0]/.test(value))
        throw new BerthError('invalid_argument', `pod metadata ${JSON.stringify(value)} holds ";" or "="`);
      return `${key}=${value}`;
    })
    .join(';');
}
