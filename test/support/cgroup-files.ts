import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestNode } from './node';

/** The cgroup of a container as the daemon names it, from its roots. */
export async function cgroupOf(node: TestNode, containerId: string): Promise<string> {
  const { info } = await node.client.call('ContainerStatus', { containerId, verbose: true });
  return (JSON.parse(info['info'] ?? '{}') as { cgroupPath: string }).cgroupPath;
}

/** Where a cgroup of the daemon's is in the hierarchy of a controller (or in `unified`). */
export function cgroupDir(node: TestNode, controller: string, path: string): string {
  const root = node.daemon.cgroupRoots.find(dir => dir.split('/')[4] === controller);
  return join(root ?? assert.fail(`no hierarchy ${controller}`), path);
}

/** What a cgroup's file says, by its name: `memory.limit_in_bytes` is in the memory hierarchy, or in `unified`. */
export function cgroupFile(node: TestNode, path: string, file: string): string {
  const controller = file.split('.', 1)[0] ?? '';
  const isOwn = node.daemon.cgroupRoots.some(dir => dir.split('/')[4] === controller);
  return readFileSync(join(cgroupDir(node, isOwn ? controller : 'unified', path), file), 'utf8').trim();
}

/** True when the cgroup is in some hierarchy. */
export function cgroupExists(node: TestNode, path: string): boolean {
  return node.daemon.cgroupRoots.some(root => existsSync(join(root, path)));
}
