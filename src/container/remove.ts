import type { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import type { Container, Containers } from './containers';
import { removeDirectories } from './create';
import { stopContainer } from './stop';

/** RemoveContainer: kills it when it runs, then removes its cgroup, files and record. Idempotent. */
export async function removeContainer(containers: Containers, ctx: Context, container: Container): Promise<void> {
  await stopContainer(containers, ctx, container, 0);
  const { id, cgroupPath } = container.record;
  await containers.locks.run(id, async () => {
    if (containers.find(id) !== container) return;
    crashPoint('rm.stopped');
    ctx.stage("remove the container's cgroup and files");
    await Promise.all([containers.cgroups.remove(cgroupPath), removeDirectories(containers, id)]);
    await containers.forget(id);
    crashPoint('rm.forgotten');
    // Its image may have been removed before it: then its layers go now.
    if (!containers.images.find(container.record.imageId)) await containers.images.collect();
    ctx.log.info('container is removed', { container: id });
  });
}
