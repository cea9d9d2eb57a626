import { BerthError } from '../base/errors';
import { Protocol, type PortMapping } from '../cri';
import type { CreateRequest, PublishedPort } from '../cri/generated/berth/v1/berth';
import type { Image } from '../image/images';
import type { HostPorts } from '../network/host-ports';
import type { PodNetwork } from '../network/pod-network';

const PROTOCOLS = { tcp: Protocol.TCP, udp: Protocol.UDP, sctp: Protocol.SCTP } as const;

type Name = keyof typeof PROTOCOLS;

/** Refuses what can be known to be wrong before an image is pulled. */
export async function assertNetwork(
  podNetwork: PodNetwork,
  { network, ports, publishAll }: CreateRequest,
): Promise<void> {
  if (!['', 'none', 'host', 'bridge'].includes(network)) {
    throw new BerthError('invalid_argument', `network ${JSON.stringify(network)} is not known`, {
      hint: 'it is bridge, none or host',
    });
  }
  if (['none', 'host'].includes(network) && (ports.length > 0 || publishAll)) {
    throw new BerthError('invalid_argument', `with --network ${network} no ports are published`, {
      hint: network === 'host' ? "the container's ports are the host's own" : 'leave one of the two out',
    });
  }
  if (network === 'bridge' && !(await podNetwork.find('person'))) {
    throw new BerthError('failed_precondition', 'this node has no network for containers', {
      hint: 'configure one, or allow the one that berth brings: network.embedded',
    });
  }
  for (const { hostPort, containerPort, protocol } of ports) {
    nameOf(protocol);
    if (hostPort > 65_535 || containerPort < 1 || containerPort > 65_535)
      throw new BerthError(
        'invalid_argument',
        `publish ${hostPort}:${containerPort}: a port is a number from 1 to 65535`,
      );
  }
}

/** What leads to the container: the ports that were asked for and, with publish_all, those that its image exposes. */
export async function publishedPorts(
  hostPorts: HostPorts,
  podNetwork: PodNetwork,
  { ports, publishAll }: CreateRequest,
  image: Image,
): Promise<PortMapping[]> {
  const exposed = publishAll ? image.config.exposedPorts.flatMap(expand) : [];
  const more = exposed.filter(port => !ports.some(other => isSame(port, other)));
  const wishes = [...ports, ...more].map(({ hostIp, hostPort, containerPort, protocol }) => ({
    hostPort,
    containerPort,
    protocol: nameOf(protocol),
    ...(hostIp === '' ? {} : { hostIP: hostIp }),
  }));
  const chosen = await hostPorts.choose(wishes, podNetwork.held());
  return chosen.map(({ hostPort, containerPort, protocol, hostIP = '' }) => ({
    hostPort,
    containerPort,
    protocol: PROTOCOLS[protocol],
    hostIp: hostIP,
  }));
}

/** `80/tcp`, `8000-8010/udp`, `53`: as images write them. */
function expand(text: string): PublishedPort[] {
  const [, first = '', last = first, protocol = 'tcp'] = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(\w+))?$/.exec(text) ?? [];
  const count = first === '' ? 0 : Math.max(0, Number(last) - Number(first) + 1);
  return Array.from({ length: count }, (_, i) => ({
    hostIp: '',
    hostPort: 0,
    containerPort: Number(first) + i,
    protocol: protocol.toLowerCase(),
  }));
}

function isSame(one: PublishedPort, other: PublishedPort): boolean {
  return one.containerPort === other.containerPort && one.protocol === other.protocol;
}

function nameOf(protocol: string): Name {
  if (Object.hasOwn(PROTOCOLS, protocol)) return protocol as Name;
  throw new BerthError('invalid_argument', `protocol ${JSON.stringify(protocol)} is not tcp, udp or sctp`);
}
