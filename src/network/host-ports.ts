import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { BerthError, errnoOf } from '../base/errors';
import { familyOf } from './addresses';
import type { PortMapping } from './bridge/config';
import type { Held } from './bridge/lease';

/** Where the kernel itself gives out no ports, and services rarely listen. */
const FIRST = 49_153;
const LAST = 65_535;

/** Chooses ports of the host's for people's containers, one after the other, so that two at once do not choose the same. */
export class HostPorts {
  private next = FIRST;

  /** `hostPort` 0 is any that is free. The same ports, each with one of the host's that no pod has and nothing listens on; throws where there is none. */
  async choose(wishes: readonly PortMapping[], held: Held): Promise<PortMapping[]> {
    const chosen: PortMapping[] = [];
    for (const wish of wishes) {
      if (wish.hostPort !== 0) {
        await assertNobodyListens(wish);
        chosen.push(wish);
      } else {
        chosen.push(await this.free(wish, held));
      }
    }
    return chosen;
  }

  private async free(wish: PortMapping, held: Held): Promise<PortMapping> {
    for (let tried = FIRST; tried <= LAST; tried++) {
      const hostPort = this.next;
      this.next = hostPort === LAST ? FIRST : hostPort + 1;
      const mapping = { ...wish, hostPort };
      if (held.ports.some(port => port.hostPort === hostPort && port.protocol === wish.protocol)) continue;
      if (!(await isListenedOn(mapping))) return mapping;
    }
    throw new BerthError('resource_exhausted', `no port from ${FIRST} to ${LAST} of this host is free`);
  }
}

async function assertNobodyListens(mapping: PortMapping): Promise<void> {
  if (!(await isListenedOn(mapping))) return;
  const { hostPort, protocol, hostIP } = mapping;
  throw new BerthError(
    'failed_precondition',
    `host port ${hostPort}/${protocol}${hostIP === undefined ? '' : ` of ${hostIP}`}: a program of this host listens on it`,
    { hint: 'choose another one' },
  );
}

/** By trying: what listens would be cut off by the published port. Of SCTP nothing is known. */
async function isListenedOn({ hostPort, protocol, hostIP }: PortMapping): Promise<boolean> {
  if (protocol === 'sctp') return false;
  const address = hostIP ?? '0.0.0.0';
  const failure = await (protocol === 'tcp' ? tryTcp(address, hostPort) : tryUdp(address, hostPort));
  if (failure === 'EADDRNOTAVAIL' && hostIP !== undefined)
    throw new BerthError(
      'invalid_argument',
      `${address} is not an address of this host, so no port of it is published`,
    );
  return failure === 'EADDRINUSE';
}

function tryTcp(host: string, port: number): Promise<string | undefined> {
  return new Promise(resolve => {
    const server = createServer();
    server.once('error', error => resolve(errnoOf(error)));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}

function tryUdp(address: string, port: number): Promise<string | undefined> {
  return new Promise(resolve => {
    const socket = createSocket(familyOf(address) === 6 ? 'udp6' : 'udp4');
    socket.once('error', error => {
      socket.close();
      resolve(errnoOf(error));
    });
    socket.bind({ address, port, exclusive: true }, () => socket.close(() => resolve(undefined)));
  });
}
