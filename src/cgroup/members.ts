import { join } from 'node:path';
import { addon } from '../native/addon';
import { homeOf, type Hierarchies } from './hierarchies';

/** Pids right in each of these cgroups, in their order. v2's list is the cheap one: v1 makes, sorts and keeps a copy of it. */
export async function membersOf(hierarchies: Hierarchies, paths: readonly string[]): Promise<number[][]> {
  const root = hierarchies.v2 ?? homeOf(hierarchies, 'pids')?.mountpoint ?? hierarchies.v1[0]?.mountpoint;
  if (root === undefined || paths.length === 0) return paths.map(() => []);
  const texts = await addon().readFiles(paths.map(path => join(root, path, 'cgroup.procs')).join('\0'), '');
  return texts
    .split('\0')
    .slice(0, paths.length)
    .map(text => text.split('\n').map(Number).filter(Boolean));
}
