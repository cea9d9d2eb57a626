import { dirname } from 'node:path';
import type { PodSandboxConfig } from '../cri';
import { podResources, resourcesSpec } from '../oci/resources';
import type { ResourcesSpec } from '../oci/spec';
import type { SandboxRecord, Sandboxes } from './sandboxes';

/** The pod's cgroup and, when it is berth's own, its limits. The kubelet sets those of its pods' cgroups itself. */
export async function makeCgroup(sandboxes: Sandboxes, record: SandboxRecord, limits: ResourcesSpec): Promise<void> {
  await sandboxes.cgroups.makePod(record.cgroupParent, record.ownsCgroupParent ? limits : undefined);
}

/** Takes the pod's cgroup away when it is berth's own, and ends what is in it. */
export async function removeCgroup(sandboxes: Sandboxes, record: SandboxRecord): Promise<void> {
  if (record.ownsCgroupParent) await sandboxes.cgroups.remove(record.cgroupParent, dirname(record.cgroupParent));
}

/** All that the pod may use: its containers together, its overhead, and the configured number of processes. */
export function podLimits({ linux }: PodSandboxConfig, pidsLimit: bigint | undefined): ResourcesSpec {
  return {
    ...resourcesSpec(podResources(linux?.resources, linux?.overhead)),
    ...(pidsLimit === undefined ? {} : { pids: { limit: pidsLimit } }),
  };
}
