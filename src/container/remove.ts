import type { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { messageOf } from '../base/errors';
import type { Container, Containers } from './containers';
import { removeDirectories } from './create';
import { runPoststop } from './hooks';
import { stopContainer } from './stop';

/** RemoveContainer: kills it when it runs, then removes its cgroup, files and record. Idempotent. */
export async function removeContainer(containers: Containers, ctx: Context, container: Container): Promise<void> {
  await stopContainer(containers, ctx, container, 0);
  const { id, cgroupPath } = container.record;
  await containers.locks.run(id, async () => {
    if (containers.find(id) !== container) return;
    crashPoint('rm.stopped');
    ctx.stage('run the hooks that follow its end');
    // They follow all else that its end brings, and so a daemon that ends in the middle of that has run none of them.
    if (container.record.hooks?.poststop) await ctx.race(container.ending ?? Promise.resolve());
    await ctx.race(runPoststop(containers, container));
    ctx.stage("remove the container's cgroup and files");
    await forgetWithRuntime(containers, ctx, container);
    await Promise.all([containers.cgroups.remove(cgroupPath), removeDirectories(containers, id)]);
    await containers.forget(id);
    crashPoint('rm.forgotten');
    // An image of its may have been removed before it: then its layers go now.
    const used = [container.record, ...(container.record.imageVolumes ?? [])];
    if (container.record.owner !== 'build' && used.some(({ imageId }) => !containers.images.find(imageId)))
      await containers.images.collect();
    ctx.log.info('container is removed', { container: id });
  });
}

/** Its cgroup, and so all of its processes, goes next, also when the runtime fails here. */
async function forgetWithRuntime(containers: Containers, ctx: Context, container: Container): Promise<void> {
  const { id } = container.record;
  try {
    await containers.runtimes.delete(containers.handlerOf(container), id);
  } catch (error) {
    ctx.log.warn(`the runtime did not forget a container, which is removed without: ${messageOf(error)}`, {
      container: id,
    });
  }
}
