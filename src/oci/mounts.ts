import { posix } from 'node:path';
import { BerthError } from '../base/errors';
import { MountPropagation, type Mount } from '../cri';
import { cgroupMounts } from './cgroup-mounts';
import type { CgroupTrees } from './host-facts';
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
  cgroups: CgroupTrees;
  isPrivileged: boolean;
  isRootReadonly: boolean;
}

/**
 * All mounts of a container, in their order: the standard ones, then the pod's files and the request's, parents before
 * children. A mount of the request takes the place of a standard one or a file with the same path, and one at /dev or
 * /sys/fs/cgroup that of everything in it. Throws `invalid_argument`.
 */
export function containerMounts(asked: readonly Mount[], facts: MountFacts): MountSpec[] {
  const wanted = asked.map(mount => bindOf(mount, facts));
  const taken = new Set(wanted.map(mount => mount.destination));
  const isFree = ({ destination }: MountSpec) =>
    !taken.has(destination) &&
    !['/dev', '/sys/fs/cgroup'].some(path => taken.has(path) && destination.startsWith(`${path}/`));
  return [
    ...standardMounts(facts).filter(isFree),
    ...[...podFiles(facts).filter(isFree), ...wanted].sort((a, b) => depth(a) - depth(b)),
  ];
}

function depth(mount: MountSpec): number {
  return mount.destination.split('/').length;
}

function standardMounts({ shmPath, cgroups, isPrivileged }: MountFacts): MountSpec[] {
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
    ...cgroupMounts(cgroups, isPrivileged),
  ];
}

/** The files are the pod's, shared by its containers: one that may not write to its root may not write to them. */
function podFiles({ files, isRootReadonly }: MountFacts): MountSpec[] {
  return Object.entries(files).map(([destination, source]): MountSpec => ({
    ...PLAIN_BIND,
    destination,
    source,
    readonly: isRootReadonly,
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
  return {
    ...PLAIN_BIND,
    destination,
    source: mount.hostPath,
    readonly: mount.readonly,
    recursive: true,
    recursiveOptions: mount.recursiveReadOnly,
    makeSource: facts.makeMountSources,
    noexec: options.has('noexec'),
    nodev: options.has('nodev') || !facts.isPrivileged,
    nosuid: options.has('nosuid'),
    propagation: PROPAGATION[mount.propagation],
    ...mountMappings(mount),
  };
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
function destinationOf({ containerPath, hostPath }: Mount): string {
  const refuse = (why: string) =>
    new BerthError('invalid_argument', `mount of ${hostPath}: container path ${JSON.stringify(containerPath)} ${why}`);
  if (!isPath(containerPath)) throw refuse('is not absolute');
  const path = posix.normalize(containerPath).replace(/(?<=.)\/$/, '');
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
