import { statfs } from 'node:fs/promises';
import type { Context } from '../base/context';
import { isAbsent, messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import type { Sandbox, Sandboxes } from './sandboxes';

/** f_type of a pinned namespace; linux/magic.h. */
const NSFS_MAGIC = 0x6e736673;

export async function isPinned(path: string): Promise<boolean> {
  try {
    return (await statfs(path)).type === NSFS_MAGIC;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}

/** Gives the pod's addresses back, and forgets them once that is done. Idempotent; what fails is tried again by the next stop. */
export async function detachNetwork(sandboxes: Sandboxes, log: Logger, sandbox: Sandbox): Promise<void> {
  const { id, network } = sandbox.record;
  if (!network) return;
  const path = sandboxes.paths(id).network;
  await sandboxes.network.detach(log, id, (await isPinned(path)) ? path : '', network);
  await sandboxes.update(sandbox, { network: undefined });
}

/** What of the pod's network is not as it was made; undefined when all is, or when the pod has given it back meanwhile. */
export async function networkProblem(
  sandboxes: Sandboxes,
  ctx: Context,
  sandbox: Sandbox,
): Promise<string | undefined> {
  const { id, network } = sandbox.record;
  if (!network) return undefined;
  const path = sandboxes.paths(id).network;
  try {
    if (!(await isPinned(path))) return 'its network namespace is gone; it is made again with the pod';
    await sandboxes.network.check(ctx, id, path, network);
  } catch (error) {
    ctx.throwIfEnded();
    // A pod that is stopped while it is looked at has lost its network, and rightly so.
    if (sandbox.record.network === network) return messageOf(error);
  }
  return undefined;
}

/** After a start: plugins give back what they still hold for pods that are not there any more. */
export async function collectNetworks(sandboxes: Sandboxes, ctx: Context): Promise<void> {
  try {
    await sandboxes.network.collect();
  } catch (error) {
    ctx.log.warn(`what networks hold for pods that are gone was not given back: ${messageOf(error)}`);
  }
}
