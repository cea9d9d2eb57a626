import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import { PodSandboxConfig, type LinuxContainerResources, type LinuxPodSandboxConfig } from '../cri';
import { mergedResources } from '../oci/resources';
import { podLimits } from './pod-cgroup';
import type { Sandbox, Sandboxes } from './sandboxes';

export interface PodResources {
  resources: LinuxContainerResources | undefined;
  overhead: LinuxContainerResources | undefined;
}

/**
 * UpdatePodSandboxResources: what the request sets holds from now on, and the
 * record says so. The pod's own cgroup is changed where berth made it; the
 * kubelet's it has changed itself before this call. Throws `invalid_argument`
 * naming a value that the kernel does not take; nothing is changed then.
 */
export async function updateSandbox(
  sandboxes: Sandboxes,
  ctx: Context,
  sandbox: Sandbox,
  asked: PodResources,
): Promise<void> {
  const { id } = sandbox.record;
  await sandboxes.locks.run(id, async () => {
    const { state, ownsCgroupParent, cgroupParent } = sandbox.record;
    if (state !== 'ready') throw new BerthError('failed_precondition', `pod sandbox ${id} is not ready`);
    const config = { ...sandbox.config, linux: withResources(sandbox.config.linux, asked) };
    const limits = podLimits(config, sandboxes.podPidsLimit);
    ctx.stage("change the pod's limits");
    const undo = ownsCgroupParent ? await sandboxes.cgroups.changeLimits(cgroupParent, limits) : undefined;
    try {
      await sandboxes.update(sandbox, { config: Buffer.from(PodSandboxConfig.encode(config).finish()) });
    } catch (error) {
      await undo?.();
      throw error;
    }
    ctx.log.info("the pod's resources are changed", { sandbox: id });
  });
}

function withResources(
  linux: LinuxPodSandboxConfig | undefined,
  { resources, overhead }: PodResources,
): LinuxPodSandboxConfig {
  return {
    cgroupParent: '',
    securityContext: undefined,
    sysctls: {},
    ...linux,
    resources: resources ? mergedResources(linux?.resources, resources) : linux?.resources,
    overhead: overhead ? mergedResources(linux?.overhead, overhead) : linux?.overhead,
  };
}
