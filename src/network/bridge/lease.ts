import { BerthError } from '../../base/errors';
import { addressNumber, addressText, familyOf, subnetText } from '../addresses';
import type { AddressRange, BridgeConfig, PortMapping } from './config';

/** An address that a pod has, from before it is used until its network is gone: part of the pod's record. */
export interface Lease {
  readonly address: string;
  readonly prefix: number;
  readonly gateway: string;
}

/** What other pods hold, by their records. */
export interface Held {
  readonly addresses: ReadonlySet<string>;
  readonly ports: readonly (PortMapping & { readonly pod: string })[];
}

/**
 * Chooses addresses. There is no list of them beside the pods' records: what no record holds is free, so that nothing
 * can be lost or given twice, whenever the daemon ends.
 */
export class Leases {
  /** By range: the last one that was given, so that one just given back rests for a while. */
  private readonly last = new Map<string, bigint>();

  /** An address of each range for one pod. The caller records it before anything else is asked. */
  take({ ranges }: BridgeConfig, held: Held): Lease[] {
    return ranges.map(set => {
      for (const range of set) {
        const address = this.free(range, held.addresses);
        if (address !== undefined) return { address, prefix: range.subnet.prefix, gateway: range.gateway };
      }
      const names = set.map(({ subnet }) => subnetText(subnet)).join(', ');
      throw new BerthError('resource_exhausted', `no address of ${names} is free for the pod`, {
        hint: 'remove pods, or give the network a wider range',
      });
    });
  }

  private free({ subnet, first, last, gateway }: AddressRange, held: ReadonlySet<string>): string | undefined {
    const key = `${subnetText(subnet)} ${first}`;
    const size = last - first + 1n;
    let next = (this.last.get(key) ?? first - 1n) + 1n;
    // Only those that are held, and the gateway, are passed over.
    for (let tried = 0n; tried < size && tried <= BigInt(held.size) + 1n; tried++, next++) {
      if (next > last || next < first) next = first;
      const address = addressText(subnet.family, next);
      if (address === gateway || held.has(address)) continue;
      this.last.set(key, next);
      return address;
    }
    return undefined;
  }
}

/** Refuses a port of the host's that another pod has. */
export function assertPortsFree(wanted: readonly PortMapping[], held: Held): void {
  // A pod may publish thousands, and so may the others.
  const taken = new Map<string, (PortMapping & { readonly pod?: string })[]>();
  const at = ({ hostPort, protocol }: PortMapping) => `${hostPort}/${protocol}`;
  const take = (mapping: PortMapping) => {
    const there = taken.get(at(mapping));
    if (there) there.push(mapping);
    else taken.set(at(mapping), [mapping]);
  };
  held.ports.forEach(take);
  for (const mapping of wanted) {
    const other = taken.get(at(mapping))?.find(one => collide(mapping, one));
    take(mapping);
    if (!other) continue;
    throw new BerthError(
      'failed_precondition',
      `${hostPortOf(mapping)} is ${other.pod === undefined ? 'asked for twice' : `in use by pod sandbox ${other.pod}`}`,
      { hint: 'choose another one' },
    );
  }
}

/** Refuses a port of an address of the host's from which no way leads to the pod: nobody would be told otherwise. */
export function assertPortsLead({ portMappings, ranges }: BridgeConfig): void {
  const families = new Set(ranges.flat().map(({ subnet }) => subnet.family));
  for (const mapping of portMappings) {
    const { hostIP } = mapping;
    if (hostIP === undefined) continue;
    const family = familyOf(hostIP);
    if (family === 6 && addressNumber(hostIP) === 1n)
      throw new BerthError(
        'invalid_argument',
        `${hostPortOf(mapping)} leads nowhere: from ::1 nothing leaves the host`,
        {
          hint: 'publish it on 127.0.0.1',
        },
      );
    if (!families.has(family))
      throw new BerthError(
        'failed_precondition',
        `${hostPortOf(mapping)} leads nowhere: pods have no IPv${family} address`,
        {
          hint: `publish it on an address of IPv${family === 6 ? 4 : 6}, or give the network a range of IPv${family}`,
        },
      );
  }
}

function hostPortOf({ hostPort, protocol, hostIP }: PortMapping): string {
  return `host port ${hostPort}/${protocol}${hostIP === undefined ? '' : ` of ${hostIP}`}`;
}

/** Of the same port and protocol. */
function collide(one: PortMapping, other: PortMapping): boolean {
  const [a, b] = [one.hostIP, other.hostIP];
  return a === b || covers(a, b) || covers(b, a);
}

/** Whether a host IP means all addresses, of its family or of both, and so this one too. */
function covers(all: string | undefined, address: string | undefined): boolean {
  if (all === undefined) return true;
  return isAny(all) && address !== undefined && familyOf(all) === familyOf(address);
}

export function isAny(hostIP: string): boolean {
  return hostIP === '0.0.0.0' || hostIP === '::';
}
