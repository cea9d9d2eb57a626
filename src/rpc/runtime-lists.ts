import { onceFor } from '../base/once-for';
import type { Container } from '../container/containers';
import {
  ListContainersResponse,
  ListPodSandboxResponse,
  type ContainerFilter,
  type ContainerStatsFilter,
  type PodSandboxFilter,
  type PodSandboxStatsFilter,
} from '../cri';
import type { Sandbox } from '../sandbox/sandboxes';
import { containerState, criContainer, podSandbox, sandboxState } from './to-cri';

/** What the kubelet may see, and a filter lets through. */
export function listedContainers(
  all: readonly Container[],
  filter?: ContainerFilter | ContainerStatsFilter,
): Container[] {
  return all.filter(container => isOurs(container) && (!filter || fitsContainer(filter, container)));
}

export function listedSandboxes(all: readonly Sandbox[], filter?: PodSandboxFilter | PodSandboxStatsFilter): Sandbox[] {
  return all.filter(sandbox => isOurs(sandbox) && (!filter || fitsSandbox(filter, sandbox)));
}

/** What people made is not the kubelet's: it would collect it. */
function isOurs({ record }: Sandbox | Container): boolean {
  return record.owner === 'cri' && record.state !== 'creating';
}

function fitsContainer(filter: ContainerFilter | ContainerStatsFilter, { record, config }: Container): boolean {
  if (!record.id.startsWith(filter.id) || !record.sandboxId.startsWith(filter.podSandboxId)) return false;
  if ('state' in filter && filter.state && filter.state.state !== containerState(record.state)) return false;
  return hasLabels(config.labels, filter.labelSelector);
}

function fitsSandbox(filter: PodSandboxFilter | PodSandboxStatsFilter, { record, config }: Sandbox): boolean {
  if (!record.id.startsWith(filter.id)) return false;
  if ('state' in filter && filter.state && filter.state.state !== sandboxState(record.state)) return false;
  return hasLabels(config.labels, filter.labelSelector);
}

function hasLabels(labels: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>>): boolean {
  for (const key in wanted) if (labels[key] !== wanted[key]) return false;
  return true;
}

/* What a list says of a thing is encoded once a change of it: the kubelet lists all of them every second. */

/** A container as field 1 of a ListContainersResponse or a StreamContainersResponse. */
export function containerItem(container: Container): Uint8Array {
  return onceFor(encodings, container.record, () =>
    ListContainersResponse.encode({ containers: [criContainer(container)] }).finish(),
  );
}

/** A pod as field 1 of a ListPodSandboxResponse or a StreamPodSandboxesResponse. */
export function podItem(sandbox: Sandbox): Uint8Array {
  return onceFor(encodings, sandbox.record, () =>
    ListPodSandboxResponse.encode({ items: [podSandbox(sandbox)] }).finish(),
  );
}

/** By record, which is another object after each change. */
const encodings = new WeakMap<object, Uint8Array>();
