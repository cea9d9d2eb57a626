import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { BerthError } from '../base/errors';
import { addon } from '../native/addon';
import { decodeMessage } from '../native/control';
import { startHelper } from '../native/helper';
import type { HelperMessage, OuterOp } from '../native/plan-ops';
import { deferred } from './deferred';
import { reapWhenEnded } from './reap';

const NEWNET = 0x40000000;

/** The helper gives each of two addresses ten seconds. */
const DIAL_WITHIN_MS = 30_000;

/** What errno says of a connection that did not come about. */
const REASONS: Readonly<Record<number, string>> = {
  99: 'there is no such address in the pod',
  101: 'the network is unreachable',
  110: 'nobody answers',
  111: 'connection refused: nothing listens there',
};

/**
 * A TCP connection to a port of localhost, inside a network namespace given by its path (undefined: the host's), by a
 * helper process. The caller closes it.
 */
export async function dialLocalhost(networkPath: string | undefined, port: number): Promise<Socket> {
  const join: OuterOp[] = networkPath === undefined ? [] : [{ op: 'SETNS', type: NEWNET, path: networkPath }];
  const plan = { outer: [...join, { op: 'DIAL', port } as const], inner: [] };
  const helper = await startHelper({ role: 'dial', name: String(port), plan });
  reapWhenEnded(helper.pidfd);
  const { message, fd } = await hear(helper.controlFd);
  if (message?.type === 'DIALED' && fd >= 0)
    return new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
  if (fd >= 0) closeSync(fd);
  if (message?.type !== 'FAILED') throw new BerthError('internal', 'the helper that connects ended without a word');
  const why = REASONS[message.errno] ?? `errno ${message.errno}`;
  throw new BerthError('unavailable', `connect to ${message.detail || 'the pod'}: ${why}`);
}

interface Heard {
  message: HelperMessage | undefined;
  fd: number;
}

/** The helper's one message and what came with it. Closes the socket. */
async function hear(controlFd: number): Promise<Heard> {
  const heard = deferred<Heard>();
  let pending: Buffer = Buffer.alloc(0);
  let fd = -1;
  const stop = addon().watch(controlFd, () => {
    try {
      const received = addon().receive(controlFd);
      if (received === null) return;
      const [data, came] = received;
      if (came >= 0) fd = came;
      pending = Buffer.concat([pending, data]);
      const next = decodeMessage(pending);
      if (next !== undefined || data.length === 0) heard.resolve({ message: next?.message, fd });
    } catch (error) {
      heard.reject(error);
    }
  });
  const timer = setTimeout(() => heard.resolve({ message: undefined, fd }), DIAL_WITHIN_MS);
  return heard.promise.finally(() => {
    clearTimeout(timer);
    stop();
    closeSync(controlFd);
  });
}
