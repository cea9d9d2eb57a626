import { isIP } from 'node:net';
import { z } from 'zod';
import { BerthError } from '../../base/errors';
import { addressNumber, addressText, contains, lastOf, subnetOf, subnetText, type Subnet } from '../addresses';

/** The plugin's name in network configurations. */
export const BERTH_BRIDGE = 'berth-bridge';

const address = z.string().refine(text => isIP(text) !== 0, 'an IP address');
const range = z.strictObject({
  subnet: z.string(),
  rangeStart: address.optional(),
  rangeEnd: address.optional(),
  gateway: address.optional(),
});
const route = z.strictObject({ dst: z.string(), gw: address.optional() });
const port = z.number().int().min(1).max(65535);

/** Keys that say which addresses there are; beside the others or, as for the bridge plugin, in `ipam`. */
const addressKeys = {
  ...range.partial().shape,
  ranges: z.array(z.array(range).min(1)).optional(),
  routes: z.array(route).optional(),
};

/** What is known; another key would be a wish that nobody fulfils. */
const shape = z.strictObject({
  ...addressKeys,
  bridge: z
    .string()
    .regex(/^[A-Za-z0-9_.-]{1,15}$/, 'a name of at most 15 letters, digits, "-", "_" and "."')
    .default('berth0'),
  isGateway: z.boolean().default(true),
  isDefaultGateway: z.boolean().default(true),
  ipMasq: z.boolean().default(true),
  hairpinMode: z.boolean().default(true),
  mtu: z.number().int().min(0).max(65535).default(0),
  ipam: z.strictObject({ type: z.literal('host-local'), ...addressKeys }).optional(),
  runtimeConfig: z
    .object({
      portMappings: z
        .array(
          z.object({
            hostPort: port,
            containerPort: port,
            protocol: z.enum(['tcp', 'udp', 'sctp']),
            hostIP: address.optional(),
          }),
        )
        .default([]),
      bandwidth: z
        .object({
          ingressRate: z.number().default(0),
          ingressBurst: z.number().default(0),
          egressRate: z.number().default(0),
          egressBurst: z.number().default(0),
        })
        .optional(),
      ipRanges: z.array(z.array(range).min(1)).optional(),
    })
    .prefault({}),
  type: z.string().optional(),
  name: z.string().optional(),
  cniVersion: z.string().default('1.1.0'),
  prevResult: z.looseObject({}).optional(),
  'cni.dev/valid-attachments': z.unknown().optional(),
});

export interface AddressRange {
  readonly subnet: Subnet;
  /** The lowest and the highest address that pods get. */
  readonly first: bigint;
  readonly last: bigint;
  readonly gateway: string;
}

export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  /** Absent: all of the host's addresses. */
  readonly hostIP?: string | undefined;
}

/** Bits a second and bits; 0 for no limit. */
interface Bandwidth {
  readonly ingressRate: number;
  readonly ingressBurst: number;
  readonly egressRate: number;
  readonly egressBurst: number;
}

/** What a network by berth's own bridge is to be, checked. */
export interface BridgeConfig {
  readonly bridge: string;
  /** A pod gets an address of each list, from the first range in it that has one. */
  readonly ranges: readonly (readonly AddressRange[])[];
  /** Besides those to the pods' own subnets; `gateway` absent: that of the family. */
  readonly routes: readonly { readonly to: Subnet; readonly gateway: string | undefined }[];
  readonly isGateway: boolean;
  readonly masquerade: boolean;
  readonly hairpin: boolean;
  /** 0: the kernel's own. */
  readonly mtu: number;
  readonly portMappings: readonly PortMapping[];
  readonly bandwidth: Bandwidth | undefined;
  readonly cniVersion: string;
}

/** Reads a plugin's configuration; throws a sentence that names the key. */
export function readBridgeConfig(document: object): BridgeConfig {
  const parsed = shape.safeParse(document);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw wrong(issue?.path.join('.') ?? '', issue?.message ?? 'malformed');
  }
  const { ipam, runtimeConfig, isDefaultGateway, ...own } = parsed.data;
  const { routes } = { ...own, ...ipam };
  const ranges = rangesOf(runtimeConfig.ipRanges, { ...own, ...ipam });
  if (ranges.length === 0) throw wrong('ranges', 'there is none: which addresses may pods have?');
  return {
    bridge: own.bridge,
    ranges,
    routes: routesOf(routes, isDefaultGateway && own.isGateway, ranges),
    isGateway: own.isGateway,
    masquerade: own.ipMasq,
    hairpin: own.hairpinMode,
    mtu: own.mtu,
    portMappings: runtimeConfig.portMappings,
    bandwidth: runtimeConfig.bandwidth,
    cniVersion: own.cniVersion,
  };
}

type RangeText = z.output<typeof range>;
type AddressKeys = { [Key in keyof typeof addressKeys]?: z.output<(typeof addressKeys)[Key]> | undefined };

function rangesOf(
  told: RangeText[][] | undefined,
  { ranges = [], subnet, rangeStart, rangeEnd, gateway }: AddressKeys,
): AddressRange[][] {
  const single = subnet === undefined ? [] : [[{ subnet, rangeStart, rangeEnd, gateway }]];
  const chosen = told ?? [...single, ...ranges];
  return chosen.map(set => set.map(rangeOf));
}

function rangeOf({ subnet: text, rangeStart, rangeEnd, gateway }: RangeText): AddressRange {
  const subnet = subnetOf(text, 'network range');
  const [lowest, highest] = usable(subnet);
  if (highest <= lowest) throw wrong('subnet', `${text} has no room for a gateway and a pod`);
  const inside = (which: string | undefined, otherwise: bigint, key: string) => {
    if (which === undefined) return otherwise;
    if (!contains(subnet, which)) throw wrong(key, `${which} is not in ${subnetText(subnet)}`);
    return addressNumber(which) ?? otherwise;
  };
  const range = {
    subnet,
    first: inside(rangeStart, lowest, 'rangeStart'),
    last: inside(rangeEnd, highest, 'rangeEnd'),
    gateway: addressText(subnet.family, inside(gateway, subnet.first + 1n, 'gateway')),
  };
  if (range.first > range.last) throw wrong('rangeEnd', 'it lies before rangeStart');
  return range;
}

/** Not the subnet's own address, nor the one that means all of it. */
function usable(subnet: Subnet): [bigint, bigint] {
  const last = lastOf(subnet);
  return [subnet.first + 1n, subnet.family === 4 ? last - 1n : last];
}

function routesOf(
  routes: readonly { dst: string; gw?: string | undefined }[] | undefined,
  byDefault: boolean,
  ranges: readonly (readonly AddressRange[])[],
): BridgeConfig['routes'] {
  if (routes) return routes.map(({ dst, gw }) => ({ to: subnetOf(dst, 'route'), gateway: gw }));
  if (!byDefault) return [];
  const families = new Set(ranges.flat().map(({ subnet }) => subnet.family));
  return [...families].map(family => ({ to: { family, first: 0n, prefix: 0 }, gateway: undefined }));
}

function wrong(key: string, why: string): BerthError {
  return new BerthError('failed_precondition', `${BERTH_BRIDGE}${key === '' ? '' : `: ${key}`}: ${why}`, {
    hint: 'mend the network configuration',
  });
}
