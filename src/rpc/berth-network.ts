import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { BerthError } from '../base/errors';
import { nearest } from '../config/nearest';
import { containerByName } from '../container/find';
import type { Containers } from '../container/containers';
import { Protocol, type PortMapping } from '../cri';
import type { PublishedPort } from '../cri/generated/berth/v1/berth';
import {
  NetworksService,
  type CheckedMember,
  type CheckNetworksRequest,
  type Network,
  type NetworkMember,
  type NetworksServer,
} from '../cri/generated/berth/v1/network';
import { subnetText } from '../network/addresses';
import type { NetworkDescription, NetworkedPod } from '../network/pod-network';
import { networkProblem } from '../sandbox/network';
import type { Sandbox } from '../sandbox/sandboxes';
import type { BerthParts } from './berth-service';
import { complete, serverStream, unary } from './handler';

/** Plugins are programs: so many pods are looked at at once. */
const CHECKS_AT_ONCE = 4;

/** berth.v1: networks and published ports, as people ask for them. */
export function networksService({ log, sandboxes, containers }: BerthParts): UntypedServiceImplementation {
  const built = {
    listNetworks: unary(log, 'ListNetworks', async () => ({
      networks: (await sandboxes.network.describe()).map(network => toNetwork(containers, network)),
    })),
    checkNetworks: serverStream<CheckNetworksRequest, CheckedMember>(
      log,
      'CheckNetworks',
      async ({ networks }, ctx, send) => {
        const known = await sandboxes.network.describe();
        assertKnown(
          networks,
          known.map(({ network }) => network.name),
        );
        const asked = known.filter(({ network }) => networks.length === 0 || networks.includes(network.name));
        const left = asked.flatMap(({ network, pods }) => pods.map(pod => ({ network: network.name, pod })));
        const worker = async () => {
          for (let next; (next = left.shift());) {
            const sandbox = sandboxes.find(next.pod.id);
            const [member] = memberOf(containers, next.pod);
            if (!sandbox || !member) continue;
            const problem = (await networkProblem(sandboxes, ctx, sandbox)) ?? '';
            await send({ network: next.network, member, problem });
          }
        };
        await Promise.all(Array.from({ length: CHECKS_AT_ONCE }, worker));
      },
    ),
    listPorts: unary(log, 'ListPorts', ({ container }) => {
      const sandbox = sandboxes.find(containerByName(containers, container).record.sandboxId);
      return { ports: sandbox ? portsOf(sandbox) : [] };
    }),
  } satisfies Partial<NetworksServer>;
  return complete(NetworksService, built);
}

function assertKnown(asked: readonly string[], known: readonly string[]): void {
  const unknown = asked.find(name => !known.includes(name));
  if (unknown === undefined) return;
  const near = nearest(unknown, known);
  throw new BerthError(
    'not_found',
    `no network is called ${JSON.stringify(unknown)}`,
    near === undefined ? {} : { hint: `did you mean ${near}?` },
  );
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
