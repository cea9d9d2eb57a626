import type { Logger } from '../base/log';
import type { ContainerConfig } from '../cri';
import { apparmorProfile } from '../oci/apparmor';
import { selinuxLabels } from '../oci/selinux';
import type { Spec } from '../oci/spec';
import type { Sandbox } from '../sandbox/sandboxes';
import { appArmorHost, selinuxHost } from '../sandbox/security-modules';
import { seccompOf, type ContainerSeccomp } from './seccomp';

/**
 * Puts into the spec what confines the container besides its capabilities: seccomp,
 * AppArmor, SELinux, as asked for and as the host has it. Returns the seccomp
 * filter. Throws `invalid_argument` and `failed_precondition`.
 */
export async function confine(
  spec: Spec,
  sandbox: Sandbox,
  { linux }: ContainerConfig,
  log: Logger,
): Promise<ContainerSeccomp | undefined> {
  const security = linux?.securityContext;
  const [seccomp, apparmor, selinux] = await Promise.all([
    seccompOf(security, spec.process.capabilities.bounding, log),
    appArmorHost(log),
    selinuxHost(),
  ]);
  if (seccomp) spec.linux.seccomp = seccomp.spec;
  const profile = apparmorProfile(security, apparmor);
  if (profile !== undefined) spec.process.apparmorProfile = profile;
  const pod = {
    id: sandbox.record.id,
    isPrivileged: security?.privileged ?? false,
    options: sandbox.config.linux?.securityContext?.selinuxOptions,
  };
  const labels = selinuxLabels(security?.selinuxOptions, pod, selinux);
  if (labels) {
    spec.process.selinuxLabel = labels.process;
    labelFiles(spec, labels.file);
  }
  return seccomp?.filter;
}

/** Overlays and tmpfs have no labels of their own to keep. */
function labelFiles(spec: Spec, label: string): void {
  spec.linux.mountLabel = label;
  for (const mount of spec.mounts) {
    if (mount.type === 'tmpfs') mount.options = [...mount.options, `context=${label}`];
  }
}
