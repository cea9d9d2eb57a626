import type { Logger } from '../base/log';
import type { ContainerConfig } from '../cri';
import { apparmorProfile } from '../oci/apparmor';
import { withLabels } from '../oci/labels';
import type { SelinuxLabels } from '../oci/selinux';
import type { Spec } from '../oci/spec';
import { appArmorHost } from '../sandbox/security-modules';
import type { Containers } from './containers';
import { seccompOf, type ContainerSeccomp } from './seccomp';

/**
 * Puts into the spec what confines the container besides its capabilities: seccomp,
 * AppArmor, SELinux, as asked for and as the host has it. Returns the seccomp
 * filter. Throws `invalid_argument` and `failed_precondition`.
 */
export async function confine(
  containers: Pick<Containers, 'volumes'>,
  spec: Spec,
  { linux }: ContainerConfig,
  labels: SelinuxLabels | undefined,
  log: Logger,
): Promise<ContainerSeccomp | undefined> {
  const security = linux?.securityContext;
  const [seccomp, apparmor] = await Promise.all([
    seccompOf(security, spec.process.capabilities.bounding, log),
    appArmorHost(log),
  ]);
  if (seccomp) spec.linux.seccomp = seccomp.spec;
  const profile = apparmorProfile(security, apparmor);
  if (profile !== undefined) spec.process.apparmorProfile = profile;
  if (labels) withLabels(spec, labels, path => containers.volumes.nameOf(path) !== undefined);
  return seccomp?.filter;
}
