import { dirname, join } from 'node:path';
import { BerthError } from '../base/errors';
import { pathDown, readIfThere, readWord, write } from './files';

/** A v2 cgroup has the controllers that its parents pass on: all of them do, from the root down to `dir`. */
export async function passControllersOn(root: string, dir: string): Promise<void> {
  for (const at of pathDown(root, dir)) await passOn(dirname(at));
}

/**
 * All at once, or none where the cgroup has processes of its own: then the kernel refuses memory and io (EBUSY), but would
 * take cpu and pids alone and make it the root of a threaded tree, and no cgroup below such a one takes a process. A
 * controller that cannot be passed on is missed only by who sets limits of it, who is told so then.
 */
async function passOn(dir: string): Promise<void> {
  const passed = new Set(readWord(join(dir, 'cgroup.subtree_control')).split(' '));
  const available = readWord(join(dir, 'cgroup.controllers')).split(' ');
  const missing = available.filter(name => name !== '' && !passed.has(name)).map(name => `+${name}`);
  if (missing.length === 0 || (await isPassedOn(dir, missing.join(' '))) || hasProcesses(dir)) return;
  for (const one of missing) await isPassedOn(dir, one);
}

async function isPassedOn(dir: string, controllers: string): Promise<boolean> {
  return write(join(dir, 'cgroup.subtree_control'), controllers).then(
    () => true,
    () => false,
  );
}

/** Only the root of the whole tree has no type: it has processes, and passes on what it has all the same. */
function hasProcesses(dir: string): boolean {
  return readIfThere(join(dir, 'cgroup.type')) !== '' && readIfThere(join(dir, 'cgroup.procs')) !== '';
}

/**
 * Throws `failed_precondition` for a cgroup below a threaded one, or below the root of a threaded tree: it takes no process
 * (EOPNOTSUPP), and would only if it became threaded itself, without memory and io.
 */
export function assertDomain(root: string, dir: string): void {
  const type = readIfThere(join(dir, 'cgroup.type'));
  if (type !== 'domain invalid' && type !== 'threaded') return;
  const threaded = [...pathDown(root, dir)].find(at => /threaded/.test(readIfThere(join(at, 'cgroup.type'))));
  const culprit = threaded ?? dirname(dir);
  throw new BerthError('failed_precondition', `cgroup ${dir} cannot hold a container: ${culprit} is threaded`, {
    hint: 'a threaded cgroup (cgroups(7)) and those below it take threads only; use another cgroup_parent',
  });
}

/** Why a cgroup lacks a controller of the root's, as a clause; undefined when its parents do pass it on. */
export function whyNotPassedOn(root: string, dir: string, controller: string): string | undefined {
  for (const at of pathDown(root, dir)) {
    const above = dirname(at);
    if (readIfThere(join(above, 'cgroup.subtree_control')).split(' ').includes(controller)) continue;
    if (!readIfThere(join(above, 'cgroup.controllers')).split(' ').includes(controller)) return undefined;
    return `cgroup ${above} does not pass ${controller} on${hasProcesses(above) ? ', since it has processes of its own' : ''}`;
  }
  return undefined;
}
