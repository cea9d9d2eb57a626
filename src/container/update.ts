import type { Context } from '../base/context';
import { BerthError, messageOf } from '../base/errors';
import { ContainerConfig, type LinuxContainerResources } from '../cri';
import { mergedResources, oomScoreAdjOf, resourcesSpec, touchedResources } from '../oci/resources';
import { jsonWithResources } from '../oci/spec';
import { setOomScoreAdj } from '../process/oom-score';
import type { Container, ContainerRecord, Containers } from './containers';

/**
 * UpdateContainerResources: sets what the request sets, all of it or none, on
 * a container that is created or runs. The record, and so ContainerStatus, says
 * what holds; it is written last, so that whoever hears nothing of the call sees
 * the old values there and asks again. Throws `failed_precondition` for one that
 * has exited, and `invalid_argument` naming a value that the kernel does not take.
 */
export async function updateContainer(
  containers: Containers,
  ctx: Context,
  container: Container,
  asked: LinuxContainerResources,
): Promise<void> {
  const { id, cgroupPath } = container.record;
  await containers.locks.run(id, async () => {
    assertUpdatable(container);
    const resources = mergedResources(container.config.linux?.resources, asked);
    const change = recordChange(container, resources);
    ctx.stage("change the container's limits");
    const undo = await changeLimits(containers, container, touchedResources(resourcesSpec(resources), asked));
    try {
      await containers.update(container, change);
    } catch (error) {
      await undo();
      throw error;
    }
    if (asked.oomScoreAdj !== 0n) setOomScoreAdj(containers.cgroups.processes(cgroupPath), oomScoreAdjOf(asked));
    ctx.log.info("the container's limits are changed", { container: id });
  });
}

function assertUpdatable({ record: { id, state } }: Container): void {
  if (state === 'created' || state === 'running') return;
  throw new BerthError('failed_precondition', `container ${id} is ${state}: it has no limits to change`);
}

/** The limits may go with the container at any moment. */
async function changeLimits(
  { cgroups }: Containers,
  container: Container,
  limits: ReturnType<typeof resourcesSpec>,
): Promise<() => Promise<void>> {
  try {
    return await cgroups.changeLimits(container.record.cgroupPath, limits);
  } catch (error) {
    assertUpdatable(container);
    if (error instanceof BerthError) throw error;
    throw new BerthError('internal', `change limits of container ${container.record.id}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** The same container with other resources, in its config and in its spec. */
function recordChange({ config, record }: Container, resources: LinuxContainerResources): Partial<ContainerRecord> {
  const { securityContext } = config.linux ?? { securityContext: undefined };
  const changed = { ...config, linux: { securityContext, resources } };
  return {
    config: Buffer.from(ContainerConfig.encode(changed).finish()),
    ...(record.spec === undefined
      ? {}
      : { spec: jsonWithResources(record.spec, resourcesSpec(resources), oomScoreAdjOf(resources)) }),
  };
}
