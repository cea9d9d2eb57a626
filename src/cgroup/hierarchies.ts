import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BerthError } from '../base/errors';

/** One mounted cgroup v1 hierarchy: the controllers that it carries, and where. */
interface V1Hierarchy {
  controllers: readonly string[];
  mountpoint: string;
}

/**
 * The cgroup trees of this host. Pure v2 has `v2` alone; v1 has `v1` alone; a
 * hybrid host has both, with most controllers in v1 and v2 for its process
 * tracking (cgroup.kill, cgroup.events, CLONE_INTO_CGROUP).
 */
export interface Hierarchies {
  v2: string | undefined;
  /** What v2 carries; on a hybrid host that is what no v1 hierarchy has taken. */
  v2Controllers: readonly string[];
  v1: readonly V1Hierarchy[];
}

/** Where a controller's files are. The two versions name and fill them differently. */
export interface Home {
  version: 1 | 2;
  mountpoint: string;
}

const V1_CONTROLLERS = new Set(
  'cpu cpuacct cpuset memory devices freezer blkio pids hugetlb net_cls net_prio perf_event rdma misc'.split(' '),
);

/**
 * Reads /proc/self/mountinfo's text; `readControllers` gives the words of a v2
 * tree's cgroup.controllers. Throws `failed_precondition` when no cgroup tree is mounted.
 */
export function parseHierarchies(
  mountinfo: string,
  readControllers: (v2Mountpoint: string) => readonly string[],
): Hierarchies {
  let v2: string | undefined;
  const v1 = new Map<string, V1Hierarchy>();
  for (const line of mountinfo.split('\n')) {
    const [before, after] = line.split(' - ');
    const mountpoint = unescapeOctal(before?.split(' ')[4] ?? '');
    const [type, , options = ''] = after?.split(' ') ?? [];
    if (type === 'cgroup2') v2 ??= mountpoint;
    if (type !== 'cgroup') continue;
    const controllers = options.split(',').filter(name => V1_CONTROLLERS.has(name) || name.startsWith('name='));
    const key = controllers.join(',');
    if (controllers.length > 0 && !v1.has(key)) v1.set(key, { controllers, mountpoint });
  }
  if (v2 === undefined && v1.size === 0) {
    throw new BerthError('failed_precondition', 'no cgroup tree is mounted on this host', {
      hint: 'mount one: mount -t cgroup2 none /sys/fs/cgroup',
    });
  }
  return { v2, v2Controllers: v2 === undefined ? [] : readControllers(v2), v1: [...v1.values()] };
}

/** The hierarchies that this process sees. */
export function readHierarchies(): Hierarchies {
  return parseHierarchies(readFileSync('/proc/self/mountinfo', 'utf8'), mountpoint =>
    readFileSync(join(mountpoint, 'cgroup.controllers'), 'utf8').trim().split(' '),
  );
}

/** Where a controller is on this host; undefined when it has none. */
export function homeOf({ v1, v2, v2Controllers }: Hierarchies, controller: string): Home | undefined {
  const hierarchy = v1.find(h => h.controllers.includes(controller));
  if (hierarchy) return { version: 1, mountpoint: hierarchy.mountpoint };
  return v2 !== undefined && v2Controllers.includes(controller) ? { version: 2, mountpoint: v2 } : undefined;
}

/** True when v2 carries the controllers, as on every current distribution. */
export function isUnified(hierarchies: Hierarchies): boolean {
  return hierarchies.v2 !== undefined && !hierarchies.v1.some(h => h.controllers.includes('memory'));
}

/** The directory of a cgroup in each hierarchy. */
export function directories(hierarchies: Hierarchies, path: string): string[] {
  const roots = hierarchies.v1.map(h => h.mountpoint);
  if (hierarchies.v2 !== undefined) roots.push(hierarchies.v2);
  return roots.map(root => join(root, path));
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}
