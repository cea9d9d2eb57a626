import type { InnerOp } from '../native/plan-ops';
import type { CgroupTrees } from './host-facts';
import { MOUNT_ATTR, MOUNT_FLAGS } from './linux';
import type { MountSpec } from './spec';

const ROOT = '/sys/fs/cgroup';

/**
 * /sys/fs/cgroup as other runtimes show it: the tree that carries the controllers, from the container's cgroup down. On a
 * host with v1 that is a directory for each hierarchy, and v2 is not shown. Read-only unless it `isHosts`: then it is the
 * whole tree, of v2 the host's own mount. Another one from the host's cgroup namespace would set the options of all
 * (nsdelegate, memory_recursiveprot) to those that it was asked for.
 */
export function cgroupMounts({ isUnified, v1, v2 }: CgroupTrees, isHosts: boolean): MountSpec[] {
  const mount = (destination: string, type: string, options: string[]): MountSpec => ({
    destination,
    type,
    source: '',
    options,
    readonly: !isHosts,
    nosuid: true,
    nodev: true,
    noexec: true,
    strictDestination: true,
  });
  if (isUnified && isHosts && v2 !== undefined) return [{ ...mount(ROOT, 'bind', []), source: v2 }];
  if (isUnified) return [mount(ROOT, 'cgroup2', [])];
  return [
    { ...mount(ROOT, 'tmpfs', ['mode=755', 'size=64k']), readonly: false },
    ...v1.map(controllers => mount(`${ROOT}/${nameOf(controllers)}`, 'cgroup', optionsOf(controllers))),
  ];
}

/** Right after the last hierarchy: a link for each of several controllers in one, and the directory of them is closed. */
export function cgroupDirectoryOps(mount: MountSpec, all: readonly MountSpec[]): InnerOp[] {
  const hierarchies = all.filter(({ type }) => type === 'cgroup');
  if (mount !== hierarchies.at(-1)) return [];
  const names = hierarchies.map(({ destination }) => destination.slice(ROOT.length + 1));
  const links = names
    .filter(name => name.includes(','))
    .flatMap(target => target.split(',').map(name => ({ op: 'SYMLINK', target, path: `${ROOT}/${name}` }) as const));
  const closed = {
    op: 'MOUNT_ATTR',
    path: ROOT,
    set: MOUNT_ATTR.rdonly,
    clear: 0n,
    propagation: 0n,
    flags: MOUNT_FLAGS.targetNoLinks,
  } as const;
  return [...links, ...(mount.readonly ? [closed] : [])];
}

function nameOf(controllers: readonly string[]): string {
  return controllers.map(name => name.replace(/^name=/, '')).join(',');
}

/** A hierarchy without controllers, as systemd has one, is mounted by name. */
function optionsOf(controllers: readonly string[]): string[] {
  return controllers.some(name => name.startsWith('name=')) ? ['none', ...controllers] : [...controllers];
}
