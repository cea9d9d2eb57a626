import { rm } from 'node:fs/promises';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import { Rollback, together } from '../base/rollback';
import { Stopwatch } from '../base/stopwatch';
import { makeFiles, mkdirs } from '../process/files';
import { makeCgroup, podLimits } from './pod-cgroup';
import { detachNetwork } from './network';
import { makeNetwork, networkOwner, unpin, writePodFiles } from './run';
import type { Sandbox, Sandboxes } from './sandboxes';
import { watchInit } from './watch';

/**
 * Makes the pod of a person's container ready again whose namespaces are gone, as after a reboot: the same id and files,
 * a new attachment to the network. Nothing happens to one that is ready.
 */
export async function reviveSandbox(sandboxes: Sandboxes, ctx: Context, sandbox: Sandbox): Promise<void> {
  await sandboxes.locks.run(sandbox.record.id, async () => {
    if (sandbox.record.state === 'ready') return;
    if (sandbox.closing.signal.aborted || sandboxes.find(sandbox.record.id) !== sandbox) {
      throw new BerthError('failed_precondition', `pod sandbox ${sandbox.record.id} is being removed`);
    }
    await revive(sandboxes, ctx, sandbox);
  });
}

async function revive(sandboxes: Sandboxes, ctx: Context, sandbox: Sandbox): Promise<void> {
  const { config } = sandbox;
  const { id, owner, ownNetwork, isOffline } = sandbox.record;
  const paths = sandboxes.paths(id);
  // The addresses and ports of its last life, or of an attempt that failed, would be another pod's to it.
  await detachNetwork(sandboxes, ctx.log, sandbox);
  const watch = new Stopwatch();
  const planned = ownNetwork && !isOffline ? await sandboxes.network.plan(id, config, networkOwner(owner)) : undefined;
  // Before ADD, so that the next stop takes it back whatever happens.
  await sandboxes.updateAtOnce(sandbox, { network: planned && sandboxes.network.lease(planned) });
  const { record } = sandbox;
  await using undo = new Rollback(ctx.log);
  await unpin(paths);
  await rm(paths.dir, { recursive: true, force: true });
  await makeFiles(mkdirs([paths.dir, paths.namespaces], 0o700));
  const [{ pinned, attachment }] = await together([
    makeNetwork(undo, sandboxes, watch, record, config),
    makeCgroup(sandboxes, record, podLimits(config, sandboxes.podPidsLimit)),
  ]);
  await writePodFiles(record, config, paths, attachment?.ips ?? []);
  await sandboxes.update(sandbox, {
    state: 'ready',
    pause: pinned.pause,
    ...(attachment ? { network: attachment } : {}),
    timings: watch.laps,
  });
  pinned.keep();
  watchInit(sandboxes, sandbox);
  undo.commit();
  ctx.log.info('pod sandbox is ready again', { sandbox: id });
}
