import type { Socket } from 'node:net';
import { BerthError } from '../base/errors';
import { dialLocalhost } from '../process/dial';
import type { Sandbox, Sandboxes } from './sandboxes';

/** PortForward: a connection to a port of the pod's localhost, which is the host's for a pod in its network. */
export async function dialPod(sandboxes: Sandboxes, { record }: Sandbox, port: number): Promise<Socket> {
  assertReady(record);
  return dialLocalhost(record.ownNetwork ? sandboxes.paths(record.id).network : undefined, port);
}

export function assertReady({ id, state }: Sandbox['record']): void {
  if (state === 'ready') return;
  throw new BerthError(
    'failed_precondition',
    `pod sandbox ${id} is ${state}: ports are forwarded to one that is ready`,
  );
}
