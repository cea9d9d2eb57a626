import { normalize } from 'node:path';
import { BerthError } from '../base/errors';
import type { PodSandboxConfig } from '../cri';
import { podResources, resourcesSpec } from '../oci/resources';
import type { ResourcesSpec } from '../oci/spec';
import type { SandboxRecord, Sandboxes } from './sandboxes';

/** The pod's cgroup and, when it is berth's own, its limits. The kubelet sets those of its pods' cgroups itself. */
export async function makeCgroup(sandboxes: Sandboxes, record: SandboxRecord, limits: ResourcesSpec): Promise<void> {
  await sandboxes.cgroups.create(record.cgroupParent);
  if (record.ownsCgroupParent) await sandboxes.cgroups.limit(record.cgroupParent, limits);
}

/** Takes the pod's cgroup away when it is berth's own, and ends what is in it. */
export async function removeCgroup(sandboxes: Sandboxes, record: SandboxRecord): Promise<void> {
  if (record.ownsCgroupParent) await sandboxes.cgroups.remove(record.cgroupParent, '/berth');
}

/** All that the pod may use: its containers together, its overhead, and the configured number of processes. */
export function podLimits({ linux }: PodSandboxConfig, pidsLimit: bigint | undefined): ResourcesSpec {
  return {
    ...resourcesSpec(podResources(linux?.resources, linux?.overhead)),
    ...(pidsLimit === undefined ? {} : { pids: { limit: pidsLimit } }),
  };
}

/** The request's cgroup_parent as an absolute path below the cgroup trees' roots; empty for none. */
export function cgroupParentOf({ linux }: PodSandboxConfig): string {
  const asked = linux?.cgroupParent ?? '';
  if (asked === '') return '';
  const parts = asked.split('/');
  if (parts.includes('..') || asked.includes('\0')) {
    throw new BerthError('invalid_argument', `cgroup_parent ${JSON.stringify(asked)} is no path of a cgroup`);
  }
  if (!asked.includes('/') && asked.endsWith('.slice')) {
    throw new BerthError(
      'invalid_argument',
      `cgroup_parent ${asked} is a slice of systemd's, and berth uses cgroupfs`,
      {
        hint: 'set cgroupDriver: cgroupfs in the kubelet’s configuration',
      },
    );
  }
  const path = normalize(`/${asked}`).replace(/\/$/, '');
  if (path === '') throw new BerthError('invalid_argument', 'cgroup_parent "/" is no cgroup of a pod');
  return path;
}
