import { isIP, SocketAddress } from 'node:net';
import { BerthError } from '../base/errors';

export type Family = 4 | 6;

/** A range of addresses; `first` is its lowest, which names it. */
export interface Subnet {
  readonly family: Family;
  readonly first: bigint;
  readonly prefix: number;
}

/** The address as a number; undefined for what is none. */
export function addressNumber(text: string): bigint | undefined {
  const family = isIP(text);
  if (family === 0 || text.includes('%')) return undefined;
  return numberOf(family === 4 ? bytes4(text) : bytes6(text));
}

/** 4 or 16 bytes in the network's order. */
export function addressBytes(text: string): Buffer {
  return isIP(text) === 4 ? bytes4(text) : bytes6(text);
}

export function addressText(family: Family, number: bigint): string {
  const bytes = Buffer.from(number.toString(16).padStart(family === 4 ? 8 : 32, '0'), 'hex');
  return textOfBytes(bytes);
}

/** Of 4 or 16 bytes. */
export function textOfBytes(bytes: Buffer): string {
  if (bytes.length === 4) return [...bytes].join('.');
  const words = bytes.toString('hex').match(/.{4}/g) ?? [];
  return new SocketAddress({ address: words.join(':'), family: 'ipv6' }).address;
}

export function familyOf(address: string): Family {
  return isIP(address) === 6 ? 6 : 4;
}

/** `10.88.0.0/16`, also with an address inside of it; undefined for what is none. */
export function parseSubnet(text: string): Subnet | undefined {
  const [, address = '', bits = ''] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const number = addressNumber(address);
  const family = familyOf(address);
  const prefix = Number(bits);
  if (number === undefined || prefix > width(family)) return undefined;
  return { family, first: number & ~hostMask(family, prefix), prefix };
}

/** As `parseSubnet`; `what` begins the sentence for what is none. */
export function subnetOf(text: string, what: string): Subnet {
  const subnet = parseSubnet(text);
  if (subnet) return subnet;
  throw new BerthError(
    'invalid_argument',
    `${what} ${JSON.stringify(text)} is not an address with a prefix length, such as 10.88.0.0/16`,
  );
}

export function subnetText({ family, first, prefix }: Subnet): string {
  return `${addressText(family, first)}/${prefix}`;
}

export function lastOf({ family, first, prefix }: Subnet): bigint {
  return first | hostMask(family, prefix);
}

export function contains(subnet: Subnet, address: string): boolean {
  const number = addressNumber(address);
  if (number === undefined || familyOf(address) !== subnet.family) return false;
  return number >= subnet.first && number <= lastOf(subnet);
}

export function overlap(one: Subnet, other: Subnet): boolean {
  return one.family === other.family && one.first <= lastOf(other) && other.first <= lastOf(one);
}

function width(family: Family): number {
  return family === 4 ? 32 : 128;
}

function hostMask(family: Family, prefix: number): bigint {
  return (1n << BigInt(width(family) - prefix)) - 1n;
}

function numberOf(bytes: Buffer): bigint {
  return BigInt(`0x${bytes.toString('hex')}`);
}

function bytes4(text: string): Buffer {
  return Buffer.from(text.split('.').map(Number));
}

function bytes6(text: string): Buffer {
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  const tail = dotted
    ? (
        bytes4(dotted[2] ?? '')
          .toString('hex')
          .match(/.{4}/g) ?? []
      ).join(':')
    : '';
  const [head = '', rest] = (dotted ? (dotted[1] ?? '') + tail : text).split('::');
  const words = (part: string) => (part === '' ? [] : part.split(':').map(word => word.padStart(4, '0')));
  const [before, after] = [words(head), words(rest ?? '')];
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0000');
  return Buffer.from([...before, ...zeros, ...after].join(''), 'hex');
}
