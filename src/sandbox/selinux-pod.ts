import type { PodSandboxConfig } from '../cri';
import { podNamespaces } from '../oci/namespaces';
import { freeLevel, type SelinuxHost, type SelinuxPod } from '../oci/selinux';
import type { Sandbox, SandboxRecord } from './sandboxes';

/** The level that a new pod of this id gets: the one that it asks for, or one that no other has; none where there are none. */
export function newLevel(
  id: string,
  config: PodSandboxConfig,
  others: readonly Sandbox[],
  host: SelinuxHost | undefined,
): { selinuxLevel?: string } {
  if (!host?.hasLevels) return {};
  const asked = config.linux?.securityContext?.selinuxOptions?.level ?? '';
  const taken = () => new Set(others.flatMap(({ record: { selinuxLevel } }) => selinuxLevel ?? []));
  return { selinuxLevel: asked || freeLevel(id, taken()) };
}

/** What decides about the labels of its containers. */
export function selinuxPod(
  { id, selinuxLevel }: Pick<SandboxRecord, 'id' | 'selinuxLevel'>,
  config: PodSandboxConfig,
): SelinuxPod {
  const security = config.linux?.securityContext;
  const { pid, ipc } = podNamespaces(security?.namespaceOptions);
  return { id, options: security?.selinuxOptions, level: selinuxLevel, sharesHost: pid === 'host' || ipc === 'host' };
}
