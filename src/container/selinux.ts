import { BerthError } from '../base/errors';
import type { Logger } from '../base/log';
import type { ContainerConfig } from '../cri';
import { selinuxLabels, type SelinuxLabels } from '../oci/selinux';
import type { Sandbox } from '../sandbox/sandboxes';
import { isKnownLabel, selinuxHost } from '../sandbox/security-modules';
import { selinuxPod } from '../sandbox/selinux-pod';

/** A container's labels; undefined: none. Throws `invalid_argument`, and `failed_precondition` for what this node cannot give. */
export async function containerLabels(
  { record, config: podConfig }: Sandbox,
  { linux }: ContainerConfig,
  log: Logger,
): Promise<SelinuxLabels | undefined> {
  const { selinuxOptions, privileged = false } = linux?.securityContext ?? {};
  const pod = selinuxPod(record, podConfig);
  const labels = selinuxLabels(selinuxOptions, privileged, pod, await selinuxHost(log));
  const unknown = [labels?.process, labels?.file].find(label => label !== undefined && !isKnownLabel(label));
  if (unknown === undefined) return labels;
  throw new BerthError('failed_precondition', `SELinux label ${unknown}: this node's policy does not have it`, {
    hint: 'see which types, roles and levels it has, by seinfo',
  });
}
