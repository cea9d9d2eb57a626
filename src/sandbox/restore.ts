import { readdir, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../base/context';
import type { SandboxId } from '../base/ids';
import { isAbsent, messageOf } from '../base/errors';
import { startTimeOf } from '../process/identity';
import { removeSandbox } from './remove';
import { unpin } from './run';
import type { Sandbox, Sandboxes } from './sandboxes';
import { stopSandbox } from './stop';
import { watchInit } from './watch';

/** f_type of a pinned namespace; linux/magic.h. */
const NSFS_MAGIC = 0x6e736673;

/**
 * After a restart the records are believed, the kernel is asked, and what does
 * not agree is repaired: a half-made sandbox is undone, one whose namespaces are
 * gone (a reboot) is not ready any more, and what no record knows is removed.
 */
export async function restoreSandboxes(sandboxes: Sandboxes, ctx: Context): Promise<void> {
  await Promise.all(
    sandboxes
      .list()
      .map(sandbox =>
        tolerantly(ctx, `restore pod sandbox ${sandbox.record.id}`, () => restore(sandboxes, ctx, sandbox)),
      ),
  );
  await tolerantly(ctx, 'remove what no record knows', () => removeOrphans(sandboxes, ctx));
}

/** One thing that cannot be repaired must not keep the daemon from all the others. */
export async function tolerantly(ctx: Context, what: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    ctx.log.error(`could not ${what}, going on without: ${messageOf(error)}`);
  }
}

async function restore(sandboxes: Sandboxes, ctx: Context, sandbox: Sandbox): Promise<void> {
  const { id, state } = sandbox.record;
  if (state === 'creating') {
    ctx.log.warn('undoing a pod sandbox that was being made when the daemon ended', { sandbox: id });
    await removeSandbox(sandboxes, ctx, sandbox);
  } else if (state === 'ready' && !(await isAlive(sandboxes, sandbox))) {
    ctx.log.warn('the namespaces of a pod sandbox are gone', { sandbox: id });
    await stopSandbox(sandboxes, ctx, sandbox);
  } else if (state === 'ready') {
    watchInit(sandboxes, sandbox);
  }
}

async function isAlive(sandboxes: Sandboxes, { record }: Sandbox): Promise<boolean> {
  const paths = sandboxes.paths(record.id);
  if (record.pause && startTimeOf(record.pause.pid) !== record.pause.pidStartTime) return false;
  if (record.ownNetwork && !(await isPinned(paths.network))) return false;
  if (record.userns && !(await isPinned(paths.user))) return false;
  if (record.ownIpc && !(await isPinned(paths.ipc))) return false;
  return statfs(paths.dir).then(
    () => true,
    () => false,
  );
}

async function isPinned(path: string): Promise<boolean> {
  try {
    return (await statfs(path)).type === NSFS_MAGIC;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}

async function removeOrphans(sandboxes: Sandboxes, ctx: Context): Promise<void> {
  const known = new Set<string>(sandboxes.list().map(({ record }) => record.id));
  for (const name of await readdir(sandboxes.baseDir)) {
    if (known.has(name)) continue;
    ctx.log.warn('removing what is left of an unknown pod sandbox', { sandbox: name });
    await tolerantly(ctx, `remove ${join(sandboxes.baseDir, name)}`, async () => {
      await unpin(sandboxes.paths(name as SandboxId));
      await rm(join(sandboxes.baseDir, name), { recursive: true, force: true });
    });
  }
}
