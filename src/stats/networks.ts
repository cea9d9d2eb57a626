import { addon } from '../native/addon';

/** What one interface has carried since it was made. */
export interface InterfaceCounters {
  name: string;
  receivedBytes: number;
  receivedPackets: number;
  receiveErrors: number;
  receivedDropped: number;
  sentBytes: number;
  sentPackets: number;
  sendErrors: number;
  sentDropped: number;
}

/**
 * The interfaces of network namespaces, each given by the file that pins it, without the loopback; none of one that is
 * not there. `/proc/net/dev` takes no lock: a dump by netlink would wait behind whoever makes or removes interfaces.
 */
export async function readNetworks(pins: readonly string[]): Promise<InterfaceCounters[][]> {
  if (pins.length === 0) return [];
  const file = '/proc/thread-self/net/dev';
  const text = await addon().readFiles(pins.map(() => file).join('\0'), pins.join('\0'));
  return text.split('\0').slice(0, pins.length).map(parseNetDev);
}

/**
 *     Inter-|   Receive                                                |  Transmit
 *      face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
 *      eth0:    1286      13    0    0    0     0          0         0     1076      14    0    0    0     0       0          0
 */
export function parseNetDev(text: string): InterfaceCounters[] {
  return text.split('\n').slice(2).flatMap(interfaceOf);
}

function interfaceOf(line: string): InterfaceCounters[] {
  const colon = line.lastIndexOf(':');
  const name = line.slice(0, colon).trim();
  if (colon < 0 || name === 'lo') return [];
  const numbers = line
    .slice(colon + 1)
    .trim()
    .split(/ +/)
    .map(Number);
  const [receivedBytes = 0, receivedPackets = 0, receiveErrors = 0, receivedDropped = 0] = numbers;
  const [sentBytes = 0, sentPackets = 0, sendErrors = 0, sentDropped = 0] = numbers.slice(8);
  return [
    {
      ...{ name, receivedBytes, receivedPackets, receiveErrors, receivedDropped },
      ...{ sentBytes, sentPackets, sendErrors, sentDropped },
    },
  ];
}
