import { isIP } from 'node:net';
import { BerthError } from '../../base/errors';
import type { PublishedPort } from '../../cri/generated/berth/v1/berth';

const PROTOCOLS = ['tcp', 'udp', 'sctp'];

/**
 * The value of `-p`: [[HOST_IP:][HOST_PORT]:]CONTAINER_PORT[/PROTOCOL], where a port may be a range; an IPv6 address stands
 * in brackets. Without a host port any that is free is taken.
 */
export function parsePublish(text: string): PublishedPort[] {
  const [, ports = '', protocol = 'tcp'] = /^([^/]*)(?:\/(.*))?$/.exec(text) ?? [];
  if (!PROTOCOLS.includes(protocol)) throw wrong(text, `the protocol "${protocol}" is none of ${PROTOCOLS.join(', ')}`);
  const [, bracketed, plain, host = '', container = ''] =
    /^(?:\[([^\]]+)\]:|([^:]+(?=:[^:]*:)):)?(?:([^:]*):)?([^:]+)$/.exec(ports) ?? [];
  if (container === '') throw wrong(text, 'it is not [[HOST_IP:][HOST_PORT]:]CONTAINER_PORT[/PROTOCOL]');
  const hostIp = bracketed ?? plain ?? '';
  if (hostIp !== '' && isIP(hostIp) === 0) throw wrong(text, `"${hostIp}" is not an IP address`);
  const containerPorts = range(text, container);
  const hostPorts = host === '' ? containerPorts.map(() => 0) : range(text, host);
  if (hostPorts.length !== containerPorts.length)
    throw wrong(text, `${hostPorts.length} ports of the host cannot lead to ${containerPorts.length} of the container`);
  return containerPorts.map((containerPort, i) => ({ hostIp, hostPort: hostPorts[i] ?? 0, containerPort, protocol }));
}

function range(text: string, part: string): number[] {
  const [, first = '', last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (first === '' || from < 1 || to > 65_535 || to < from)
    throw wrong(text, `"${part}" is not a port from 1 to 65535, nor a range of them`);
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

function wrong(text: string, why: string): BerthError {
  return new BerthError('invalid_argument', `-p ${text}: ${why}`);
}
