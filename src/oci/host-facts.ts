import type { CdiChanges } from './cdi/edits';
import type { SelinuxLabels } from './selinux';
import type { DeviceSpec } from './spec';

/** A device as it is on the host, for a place in the container. */
export interface AskedDevice extends DeviceSpec {
  /** Out of `r`, `w` and `m`. */
  access: string;
}

/** The cgroup trees of the host, as far as a container sees them. */
export interface CgroupTrees {
  /** v2 carries the controllers. */
  isUnified: boolean;
  /** The v1 hierarchies, each as the names of its controllers, or `name=…`. */
  v1: readonly (readonly string[])[];
  /** Where v2 is mounted. */
  v2?: string;
}

/** A VOLUME of the image: a directory on the host that goes with the container. */
export interface AnonymousVolume {
  /** As the image's config has it. */
  path: string;
  source: string;
}

/** What there is on the host for one container, looked up before its spec is made. */
export interface HostFacts {
  /** What the request's devices are, those of CDI too. */
  devices: readonly AskedDevice[];
  /** What CDI devices change beside that. */
  cdi: Pick<CdiChanges, 'env' | 'mounts' | 'groups' | 'hooks'>;
  /** All of the host's, for a privileged container. */
  everyDevice: readonly DeviceSpec[];
  cgroups: CgroupTrees;
  /** The directories of sysfs that tell how hot each CPU is. */
  thermalPaths: readonly string[];
  /** Layer directories, top first, of the images that the request mounts, by the name that it uses. */
  imageLowers: ReadonlyMap<string, readonly string[]>;
  anonymousVolumes: readonly AnonymousVolume[];
  /** The container's labels; undefined where SELinux is not enabled, or has none for it. */
  selinux: SelinuxLabels | undefined;
}
