import { BerthError } from '../base/errors';
import { Protocol, type PodSandboxConfig, type PortMapping } from '../cri';
import type { RuntimeConfig } from './cni/operations';

const INGRESS = 'kubernetes.io/ingress-bandwidth';
const EGRESS = 'kubernetes.io/egress-bandwidth';

/** Bits a second; what is below or above means a mistake, as in Kubernetes' own check. */
const BITS_MIN = 1_000n;
const BITS_MAX = 1_000_000_000_000_000n;

/** What plugins with capabilities are told of a pod: ports, bandwidth, names, ranges. Throws `invalid_argument`. */
export function runtimeConfigOf(config: PodSandboxConfig, podCidrs: readonly string[]): RuntimeConfig {
  const portMappings = config.portMappings.filter(({ hostPort }) => hostPort > 0).map(portMapping);
  const bandwidth = bandwidthOf(config.annotations);
  const { dnsConfig: dns } = config;
  return {
    ...(portMappings.length > 0 ? { portMappings } : {}),
    ...(bandwidth ? { bandwidth } : {}),
    ...(dns ? { dns: { servers: dns.servers, searches: dns.searches, options: dns.options } } : {}),
    ...(podCidrs.length > 0 ? { ipRanges: podCidrs.map(subnet => [{ subnet }]) } : {}),
    ...(config.linux?.cgroupParent ? { cgroupPath: config.linux.cgroupParent } : {}),
    'io.kubernetes.cri.pod-annotations': config.annotations,
  };
}

/** A host port of 0 is none, and not asked for. */
function portMapping({ protocol, containerPort, hostPort, hostIp }: PortMapping) {
  const names: Partial<Record<Protocol, string>> = {
    [Protocol.TCP]: 'tcp',
    [Protocol.UDP]: 'udp',
    [Protocol.SCTP]: 'sctp',
  };
  for (const [what, port] of Object.entries({ 'container port': containerPort, 'host port': hostPort }))
    if (port < 1 || port > 65535)
      throw new BerthError('invalid_argument', `port mapping: ${what} ${port} is not between 1 and 65535`);
  const name = names[protocol];
  if (name === undefined) throw new BerthError('invalid_argument', `port mapping: unknown protocol ${protocol}`);
  return { hostPort, containerPort, protocol: name, ...(hostIp === '' ? {} : { hostIP: hostIp }) };
}

/** The token bucket takes bits and a burst; a second's worth of burst is as good as none. */
function bandwidthOf(annotations: Readonly<Record<string, string>>) {
  const [ingress, egress] = [INGRESS, EGRESS].map(key => {
    const text = annotations[key];
    return text === undefined ? undefined : bitsOf(text, key);
  });
  const burst = 2_147_483_647; // bits; the plugin's own largest
  if (ingress === undefined && egress === undefined) return undefined;
  return {
    ...(ingress === undefined ? {} : { ingressRate: ingress, ingressBurst: burst }),
    ...(egress === undefined ? {} : { egressRate: egress, egressBurst: burst }),
  };
}

const UNITS: Readonly<Record<string, bigint>> = {
  '': 1n,
  k: 10n ** 3n,
  M: 10n ** 6n,
  G: 10n ** 9n,
  T: 10n ** 12n,
  P: 10n ** 15n,
  Ki: 2n ** 10n,
  Mi: 2n ** 20n,
  Gi: 2n ** 30n,
  Ti: 2n ** 40n,
  Pi: 2n ** 50n,
};

/** A Kubernetes quantity of bits a second: `10M`, `1Gi`, `1.5M`. */
function bitsOf(text: string, key: string): number {
  const [, whole = '', fraction = '', unit = ''] = /^(\d{1,18})(?:\.(\d{1,9}))?([kMGTP]|[KMGTP]i)?$/.exec(text) ?? [];
  const factor = UNITS[unit];
  const bits =
    whole === '' || factor === undefined ? -1n : (BigInt(whole + fraction) * factor) / 10n ** BigInt(fraction.length);
  if (bits >= BITS_MIN && bits <= BITS_MAX) return Number(bits);
  throw new BerthError(
    'invalid_argument',
    `annotation ${key}: ${JSON.stringify(text)} is not a quantity from 1k to 1P bits a second`,
  );
}
