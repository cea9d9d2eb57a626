import { posix } from 'node:path';
import { BerthError } from '../base/errors';
import { MountPropagation, type Mount } from '../cri';
import { cgroupMounts } from './cgroup-mounts';
import type { AnonymousVolume, HostFacts } from './host-facts';
import type { MountSpec } from './spec';
import { mountMappings } from './user-namespace';

/** What decides about mounts beside the request's list of them. */
export interface MountFacts {
  /** Host path of the tmpfs that the pod shares as /dev/shm. */
  shmPath: string;
  /** Container path to host path: what the pod gives unless a mount of the request is in its place. */
  files: Readonly<Record<string, string>>;
  /** Missing sources become directories. */
  makeMountSources: boolean;
  host: Pick<HostFacts, 'cdi' | 'cgroups' | 'imageLowers' | 'anonymousVolumes' | 'selinux'>;
  isPrivileged: boolean;
  /** Its cgroup refuses devices that are not the container's. */
  hasDeviceControl?: boolean;
  isRootReadonly: boolean;
}

/**
 * All mounts of a container, in their order: the standard ones, then the pod's files, the image's volumes, the request's
 * and those of CDI devices, parents before children. A mount of the request takes the place of a standard one or a file with the same path, and one at /dev or
 * /sys/fs/cgroup that of everything in it. Throws `invalid_argument`.
 */
export function containerMounts(asked: readonly Mount[], facts: MountFacts): MountSpec[] {
  const ofDevices = new Set(facts.host.cdi.mounts.map(mount => mount.destination));
  const wanted = asked
    .map(mount => (isImageMount(mount) ? imageOf(mount, facts) : bindOf(mount, facts)))
    .filter(({ destination }) => !ofDevices.has(destination))
    .concat(facts.host.cdi.mounts);
  const taken = new Set(wanted.map(mount => mount.destination));
  const isFree = ({ destination }: MountSpec) =>
    !taken.has(destination) &&
    !['/dev', '/sys/fs/cgroup'].some(path => taken.has(path) && destination.startsWith(`${path}/`));
  return [
    ...standardMounts(facts).filter(isFree),
    ...[...podFiles(facts), ...imagesVolumes(facts)]
      .filter(isFree)
      .concat(wanted)
      .sort((a, b) => depth(a) - depth(b)),
  ];
}

function depth(mount: MountSpec): number {
  return mount.destination.split('/').length;
}

function standardMounts({ shmPath, host, isPrivileged }: MountFacts): MountSpec[] {
  const safe = { readonly: false, nosuid: true, nodev: true, noexec: true, strictDestination: true, source: '' };
  return [
    { ...safe, destination: '/proc', type: 'proc', options: [] },
    {
      ...safe,
      destination: '/dev',
      type: 'tmpfs',
      options: ['mode=755', 'size=65536k'],
      nodev: !isPrivileged,
      noexec: false,
      strictatime: true,
    },
    {
      ...safe,
      destination: '/dev/pts',
      type: 'devpts',
      options: ['newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
      nodev: false,
    },
    { ...safe, destination: '/dev/mqueue', type: 'mqueue', options: [] },
    { ...safe, destination: '/dev/shm', type: 'bind', source: shmPath, options: [] },
    { ...safe, destination: '/sys', type: 'sysfs', options: [], readonly: !isPrivileged },
    ...cgroupMounts(host.cgroups, isPrivileged),
  ];
}

/** The files are the pod's, shared by its containers: one that may not write to its root may not write to them. */
function podFiles({ files, isRootReadonly, host }: MountFacts): MountSpec[] {
  return Object.entries(files).map(([destination, source]): MountSpec => ({
    ...PLAIN_BIND,
    destination,
    source,
    readonly: isRootReadonly,
    ...labelled(host.selinux?.podFile),
  }));
}

const PLAIN_BIND = {
  type: 'bind',
  options: [],
  readonly: false,
  nosuid: false,
  nodev: false,
  noexec: false,
  propagation: 'private',
} as const satisfies Partial<MountSpec>;

/** The mount of an image's files; the kubelet says nothing in `image` for all others. */
export function isImageMount(mount: Mount): boolean {
  return mount.image !== undefined && mount.image.image !== '';
}

/** Read-only, and as an image never has devices or set-user-id programs to share, without them. */
function imageOf(mount: Mount, { host }: MountFacts): MountSpec {
  const destination = destinationOf(mount);
  const name = mount.image?.image ?? '';
  const refuse = (why: string) =>
    new BerthError('invalid_argument', `mount of image ${name} at ${mount.containerPath}: ${why}`);
  if (mount.hostPath !== '') throw refuse(`it has a host path, too: ${mount.hostPath}`);
  if (mount.propagation !== MountPropagation.PROPAGATION_PRIVATE) throw refuse('nothing propagates from an image');
  if (!isInside(mount.imageSubPath)) throw refuse(`the sub path ${JSON.stringify(mount.imageSubPath)} leads out of it`);
  return {
    ...PLAIN_BIND,
    destination,
    source: name,
    image: { lowers: [...(host.imageLowers.get(name) ?? [])], subPath: mount.imageSubPath },
    readonly: true,
    noexec: optionsOf(mount).has('noexec'),
    nodev: true,
    nosuid: true,
    ...mountMappings(mount),
  };
}

function isInside(path: string): boolean {
  return !path.startsWith('/') && !path.includes('\0') && !path.split('/').includes('..');
}

/** Anonymous volumes: hostile data says where, so that it is not in the kernel's file systems. */
function imagesVolumes({ host, isPrivileged, hasDeviceControl }: MountFacts): MountSpec[] {
  return host.anonymousVolumes.map(volume => ({
    ...PLAIN_BIND,
    destination: volumePath(volume),
    source: volume.source,
    nodev: !isPrivileged && !hasDeviceControl,
    copyUp: true,
    ...labelled(host.selinux?.file),
  }));
}

function volumePath({ path }: AnonymousVolume): string {
  const place = posix.normalize(`/${path}`).replace(/(?<=.)\/$/, '');
  if (!/^\/($|(proc|sys|dev)(\/|$))/.test(place) && !place.includes('\0')) return place;
  throw new BerthError('invalid_argument', `the image has a VOLUME ${JSON.stringify(path)}, where no volume can be`);
}

function bindOf(mount: Mount, facts: MountFacts): MountSpec {
  const destination = destinationOf(mount);
  const options = optionsOf(mount);
  if (!isPath(mount.hostPath)) {
    throw new BerthError(
      'invalid_argument',
      `mount at ${mount.containerPath}: host path ${JSON.stringify(mount.hostPath)} is not absolute`,
    );
  }
  if (mount.recursiveReadOnly) refuseHalfReadOnly(mount);
  if (mount.imageSubPath !== '') {
    throw new BerthError('invalid_argument', `mount at ${mount.containerPath}: image_sub_path is set, and no image`);
  }
  return {
    ...PLAIN_BIND,
    destination,
    source: mount.hostPath,
    readonly: mount.readonly,
    recursive: true,
    recursiveOptions: mount.recursiveReadOnly,
    makeSource: facts.makeMountSources,
    noexec: options.has('noexec'),
    nodev: options.has('nodev') || (!facts.isPrivileged && !facts.hasDeviceControl),
    nosuid: options.has('nosuid'),
    propagation: PROPAGATION[mount.propagation],
    ...mountMappings(mount),
    ...(mount.selinuxRelabel && facts.host.selinux ? { relabel: relabel(mount, facts.host.selinux.file) } : {}),
  };
}

function labelled(relabel: string | undefined): Pick<MountSpec, 'relabel'> {
  return relabel === undefined ? {} : { relabel };
}

/** What the machine itself stands on keeps its labels: another one, and it boots no more. */
const NOT_RELABELLED =
  /^\/+(|bin|boot|dev|etc|home|lib|lib64|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var|var\/lib|var\/log)\/*$/;

function relabel({ hostPath, containerPath }: Mount, label: string): string {
  if (!NOT_RELABELLED.test(posix.normalize(hostPath))) return label;
  throw new BerthError(
    'invalid_argument',
    `mount of ${hostPath} at ${containerPath}: selinux_relabel would label a directory of the system anew`,
    { hint: 'mount a directory below it' },
  );
}

const PROPAGATION = {
  [MountPropagation.PROPAGATION_PRIVATE]: 'private',
  [MountPropagation.PROPAGATION_HOST_TO_CONTAINER]: 'slave',
  [MountPropagation.PROPAGATION_BIDIRECTIONAL]: 'shared',
} as const;

/** What a file of procfs may be replaced by, as LXCFS does it; anything else there is trusted to be the kernel's. */
const REPLACEABLE_OF_PROC = new Set(
  (
    'cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo net/dev sys/kernel/ns_last_pid ' +
    'sys/crypto/fips_enabled'
  ).split(' '),
);

/** Without `.`, `..` and double slashes: so that two ways to write a path are one path. */
/** A path in the container as specs write it. */
export function normalPath(path: string): string {
  return posix.normalize(path).replace(/(?<=.)\/$/, '');
}

function destinationOf({ containerPath, hostPath }: Mount): string {
  const refuse = (why: string) =>
    new BerthError('invalid_argument', `mount of ${hostPath}: container path ${JSON.stringify(containerPath)} ${why}`);
  if (!isPath(containerPath)) throw refuse('is not absolute');
  const path = normalPath(containerPath);
  if (path === '/') throw refuse('is the root of the container');
  const inProc = path.startsWith('/proc/') ? path.slice('/proc/'.length) : '';
  if (inProc !== '' && !REPLACEABLE_OF_PROC.has(inProc)) throw refuse('lies inside /proc');
  if (path === '/proc' && hostPath !== '/proc') throw refuse("can only be the host's own /proc");
  return path;
}

function isPath(path: string): boolean {
  return path.startsWith('/') && !path.includes('\0');
}

function optionsOf({ containerPath, mountOptions }: Mount): Set<string> {
  const unknown = mountOptions.find(option => !['noexec', 'nodev', 'nosuid'].includes(option));
  if (unknown === undefined) return new Set(mountOptions);
  throw new BerthError(
    'invalid_argument',
    `mount at ${containerPath}: unknown mount option ${JSON.stringify(unknown)}`,
    {
      hint: 'noexec, nodev and nosuid are known',
    },
  );
}

/** The interface has it so: a mount that says recursive_read_only says the rest, too, and gets nothing new from the host. */
function refuseHalfReadOnly({ containerPath, readonly, propagation }: Mount): void {
  if (readonly && propagation === MountPropagation.PROPAGATION_PRIVATE) return;
  const missing = readonly ? 'propagation PRIVATE' : 'readonly';
  throw new BerthError('invalid_argument', `mount at ${containerPath}: recursive_read_only needs ${missing}`, {
    hint: 'set readonly and leave the propagation private',
  });
}
