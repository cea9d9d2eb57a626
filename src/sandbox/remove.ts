import type { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { removeTree } from '../process/files';
import { removeCgroup } from './pod-cgroup';
import type { Sandbox, Sandboxes } from './sandboxes';
import { stopSandbox } from './stop';

/** RemovePodSandbox, the sandbox's part: its containers have been removed. Also finishes what an earlier undo left. */
export async function removeSandbox(sandboxes: Sandboxes, ctx: Context, sandbox: Sandbox): Promise<void> {
  await stopSandbox(sandboxes, ctx, sandbox);
  await sandboxes.locks.run(sandbox.record.id, async () => {
    crashPoint('rm-pod.stopped');
    ctx.stage("remove the pod's cgroup and files");
    await Promise.all([removeCgroup(sandboxes, sandbox.record), removeTree(sandboxes.paths(sandbox.record.id).dir)]);
    crashPoint('rm-pod.deleted');
    await sandboxes.forget(sandbox.record.id);
    crashPoint('rm-pod.forgotten');
  });
  ctx.log.info('pod sandbox is removed', { sandbox: sandbox.record.id });
}
