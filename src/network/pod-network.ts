import { Context } from '../base/context';
import { BerthError, messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import { SingleFlight } from '../base/single-flight';
import type { PodSandboxConfig } from '../cri';
import { findNetwork, type NetworkList } from './cni/config';
import {
  addNetwork,
  assertInstalled,
  collectNetwork,
  deleteNetwork,
  networkReady,
  type RuntimeConfig,
} from './cni/operations';
import type { Attachment, PluginHost, RunProgram } from './cni/plugin';
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
}

export interface NetworkStatus {
  readonly isReady: boolean;
  /** One CamelCase word for programs. */
  readonly reason: string;
  /** A sentence for people. */
  readonly message: string;
}

export interface PodNetworkOptions {
  readonly configDir: string;
  readonly binDirs: readonly string[];
  readonly timeoutMs: number;
  readonly run: RunProgram;
  readonly log: Logger;
}

/** Networks of pods by CNI. The configuration is read whenever it is needed: what a person changes holds for the next pod. */
export class PodNetwork {
  private readonly host: PluginHost;
  private readonly looks = new SingleFlight<NetworkStatus>();
  private last: { status: NetworkStatus; network: string; at: number } | undefined;
  private podCidrs: readonly string[] = [];

  constructor(private readonly options: PodNetworkOptions) {
    const { run, binDirs, timeoutMs } = options;
    this.host = { run, binDirs, timeoutMs };
  }

  /** Of the node, from the kubelet; networks with the capability `ipRanges` hear of it. */
  setPodCidrs(cidrs: readonly string[]): void {
    this.podCidrs = cidrs;
  }

  /** What ADD for this pod will be; undefined where there is no network, and pods have their loopback alone. */
  async plan(id: string, config: PodSandboxConfig): Promise<PodAttachment | undefined> {
    const { network, complaints } = await findNetwork(this.options.configDir);
    for (const complaint of complaints) this.options.log.warn(complaint);
    if (!network && complaints[0] !== undefined)
      throw new BerthError('failed_precondition', `no network for the pod: ${complaints[0]}`);
    if (!network) return withoutNetwork(config, this.options.configDir);
    await assertInstalled(this.host, network);
    return {
      network,
      ifname: IFNAME,
      args: cniArgs(id, config),
      runtimeConfig: runtimeConfigOf(config, this.podCidrs),
      ips: [],
    };
  }

  /** ADD; the attachment with its result. */
  async attach(ctx: Context, id: string, netns: string, planned: PodAttachment): Promise<PodAttachment> {
    const { network, runtimeConfig } = planned;
    const result = await addNetwork(ctx, this.host, network, attachmentOf(id, netns, planned), runtimeConfig);
    const ips = addressesIn(result, planned.ifname);
    return { ...planned, result, ips };
  }

  /** DEL. `netns` is empty when the namespace is gone. Idempotent; also for an ADD that failed half-way. */
  async detach(log: Logger, id: string, netns: string, attachment: PodAttachment): Promise<void> {
    const { network, runtimeConfig, result } = attachment;
    const ctx = Context.of(log, { timeoutMs: DETACH_WITHIN_MS });
    await ctx.race(deleteNetwork(ctx, this.host, network, attachmentOf(id, netns, attachment), runtimeConfig, result));
  }

  /** Gives back whatever plugins hold for pods that are not among these; for networks that know how. */
  async collect(pods: readonly { id: string; attachment: PodAttachment }[]): Promise<void> {
    const present = (await findNetwork(this.options.configDir)).network;
    const networks = new Map(pods.map(({ attachment }) => [attachment.network.name, attachment.network]));
    if (present) networks.set(present.name, present);
    for (const network of networks.values()) {
      const valid = pods
        .filter(({ attachment }) => attachment.network.name === network.name)
        .map(({ id, attachment }) => ({ containerID: id, ifname: attachment.ifname }));
      await collectNetwork(this.host, network, valid);
    }
  }

  /** Whether a pod would get a network now; what plugins say of it is asked every few seconds at most. */
  async status(): Promise<NetworkStatus> {
    const { configDir } = this.options;
    const { network, complaints } = await findNetwork(configDir);
    if (!network)
      return notReady(
        complaints[0] ??
          `${configDir} holds no network configuration; a network plugin puts one there when it is set up`,
      );
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
      return { isReady: true, reason: '', message: '' };
    } catch (error) {
      return notReady(messageOf(error));
    }
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

function attachmentOf(containerId: string, netns: string, { ifname, args }: PodAttachment): Attachment {
  return { containerId, netns, ifname, args };
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
