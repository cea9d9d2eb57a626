import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { containerByName } from '../container/find';
import type { Containers } from '../container/containers';
import { Protocol, type PortMapping } from '../cri';
import type { PublishedPort } from '../cri/generated/berth/v1/berth';
import {
  NetworksService,
  type Network,
  type NetworkMember,
  type NetworksServer,
} from '../cri/generated/berth/v1/network';
import { subnetText } from '../network/addresses';
import type { NetworkDescription, NetworkedPod } from '../network/pod-network';
import type { Sandbox } from '../sandbox/sandboxes';
import type { BerthParts } from './berth-service';
import { complete, unary } from './handler';

/** berth.v1: networks and published ports, as people ask for them. */
export function networksService({ log, sandboxes, containers }: BerthParts): UntypedServiceImplementation {
  const built = {
    listNetworks: unary(log, 'ListNetworks', async () => ({
      networks: (await sandboxes.network.describe()).map(network => toNetwork(containers, network)),
    })),
    listPorts: unary(log, 'ListPorts', ({ container }) => {
      const sandbox = sandboxes.find(containerByName(containers, container).record.sandboxId);
      return { ports: sandbox ? portsOf(sandbox) : [] };
    }),
  } satisfies Partial<NetworksServer>;
  return complete(NetworksService, built);
}

function toNetwork(containers: Containers, { network, isCurrent, bridge, pods }: NetworkDescription): Network {
  return {
    name: network.name,
    plugins: network.plugins.map(({ type }) => type),
    file: network.file,
    isCurrent,
    bridge: bridge?.bridge ?? '',
    subnets: (bridge?.ranges ?? []).flat().map(({ subnet, gateway }) => ({ subnet: subnetText(subnet), gateway })),
    masquerade: bridge?.masquerade ?? false,
    mtu: bridge?.mtu ?? 0,
    members: pods.flatMap(pod => memberOf(containers, pod)),
  };
}

function memberOf(containers: Containers, { id, attachment }: NetworkedPod): NetworkMember[] {
  const sandbox = containers.sandboxes.find(id);
  if (!sandbox) return [];
  const { name = '', namespace = '' } = sandbox.config.metadata ?? {};
  return [
    {
      pod: id,
      name: sandbox.record.owner === 'cri' ? `${namespace}/${name}` : personsName(containers, sandbox, name),
      addresses: [...attachment.ips],
      ports: portsOf(sandbox),
    },
  ];
}

/** A person's container is the pod, and may have been renamed. */
function personsName(containers: Containers, { record }: Sandbox, otherwise: string): string {
  return containers.ofSandbox(record.id)[0]?.record.name ?? otherwise;
}

/** None once the pod has given its network back. */
export function portsOf({ record, config }: Sandbox): PublishedPort[] {
  if (!record.network) return [];
  return config.portMappings
    .filter(({ hostPort }) => hostPort > 0)
    .map(toPublished)
    .sort((a, b) => a.containerPort - b.containerPort || a.hostPort - b.hostPort);
}

function toPublished({ hostIp, hostPort, containerPort, protocol }: PortMapping): PublishedPort {
  return { hostIp, hostPort, containerPort, protocol: (Protocol[protocol] ?? '').toLowerCase() };
}
