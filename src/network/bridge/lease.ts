import { BerthError } from '../../base/errors';
import { addressText, familyOf, subnetText } from '../addresses';
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
  for (const [index, mapping] of wanted.entries()) {
    const twice = wanted.slice(0, index).some(other => collide(mapping, other));
    const other = held.ports.find(port => collide(mapping, port));
    if (!other && !twice) continue;
    const where = `host port ${mapping.hostPort}/${mapping.protocol}${mapping.hostIP === undefined ? '' : ` of ${mapping.hostIP}`}`;
    throw new BerthError(
      'failed_precondition',
      other ? `${where} is in use by pod sandbox ${other.pod}` : `${where} is asked for twice`,
      { hint: 'choose another one' },
    );
  }
}

function collide(one: PortMapping, other: PortMapping): boolean {
  if (one.hostPort !== other.hostPort || one.protocol !== other.protocol) return false;
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
