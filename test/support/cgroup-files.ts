import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { weightOfShares } from '../../src/cgroup/limits';
import type { TestNode } from './node';

/** The cgroup of a container as the daemon names it, from its roots. */
export async function cgroupOf(node: TestNode, containerId: string): Promise<string> {
  const { info } = await node.client.call('ContainerStatus', { containerId, verbose: true });
  return (JSON.parse(info['info'] ?? '{}') as { cgroupPath: string }).cgroupPath;
}

/** Where a cgroup of the daemon's is in the hierarchy of a controller, in v1's if there is one; `unified` is v2's. */
export function cgroupDir(node: TestNode, controller: string, path: string): string {
  const root = v1Root(node, controller) ?? v2Root(node);
  return join(root ?? assert.fail(`no hierarchy ${controller}`), path);
}

/** Where a cgroup of the daemon's is in each hierarchy, whether it is there or not. */
export function cgroupDirs(node: TestNode, path: string): string[] {
  return node.daemon.hierarchies.map(({ root }) => join(root, path));
}

/** What a cgroup's file says, by its name: `memory.limit_in_bytes` is in the memory hierarchy, or in `unified`. */
export function cgroupFile(node: TestNode, path: string, file: string): string {
  return readFileSync(join(cgroupDir(node, file.split('.', 1)[0] ?? '', path), file), 'utf8').trim();
}

/** True when the cgroup is in some hierarchy. */
export function cgroupExists(node: TestNode, path: string): boolean {
  return cgroupDirs(node, path).some(existsSync);
}

/** True when the controller's files are those of cgroup v2 on this machine. */
export function isInV2(node: TestNode, controller: string): boolean {
  return v1Root(node, controller) === undefined;
}

/** True when there is a tree of cgroup v2, whatever it carries. */
export function hasV2(node: TestNode): boolean {
  return v2Root(node) !== undefined;
}

/** The file that limits huge pages of a size, as in `2MB`: those in use, or those that are promised (`2MB.rsvd`). */
export function hugepageFile(node: TestNode, size: string): string {
  return `hugetlb.${size}.${isInV2(node, 'hugetlb') ? 'max' : 'limit_in_bytes'}`;
}

/** Limits by one name for both versions; `max` is none. Memory and swap together are the sum of v2's two. */
export interface ExpectedLimits {
  cpuShares?: number;
  cpuQuota?: number | 'max';
  cpuPeriod?: number;
  cpus?: string;
  mems?: string;
  memory?: number | 'max';
  memoryAndSwap?: number | 'max';
  pids?: number | 'max';
}

/** Asserts that a cgroup's files say this, in whichever version its controllers are. */
export function assertLimits(node: TestNode, path: string, expected: ExpectedLimits): void {
  const found = Object.keys(expected).map(name => [name, LIMITS[name as keyof ExpectedLimits](node, path)]);
  const { cpuShares, ...same } = expected;
  const weight = cpuShares !== undefined && isInV2(node, 'cpu') ? Number(weightOfShares(BigInt(cpuShares))) : cpuShares;
  assert.deepEqual(Object.fromEntries(found), cpuShares === undefined ? same : { ...same, cpuShares: weight });
}

type Read = (node: TestNode, path: string) => number | string;

const LIMITS: Record<keyof ExpectedLimits, Read> = {
  cpuShares: either('cpu', 'cpu.shares', 'cpu.weight'),
  cpuQuota: (node, path) =>
    isInV2(node, 'cpu') ? numberOf(cpuMax(node, path)[0]) : numberOf(cgroupFile(node, path, 'cpu.cfs_quota_us')),
  cpuPeriod: (node, path) =>
    isInV2(node, 'cpu') ? numberOf(cpuMax(node, path)[1]) : numberOf(cgroupFile(node, path, 'cpu.cfs_period_us')),
  cpus: (node, path) => cgroupFile(node, path, 'cpuset.cpus'),
  mems: (node, path) => cgroupFile(node, path, 'cpuset.mems'),
  memory: either('memory', 'memory.limit_in_bytes', 'memory.max'),
  memoryAndSwap: (node, path) => {
    if (!isInV2(node, 'memory')) return numberOf(cgroupFile(node, path, 'memory.memsw.limit_in_bytes'));
    const [memory, swap] = ['memory.max', 'memory.swap.max'].map(file => numberOf(cgroupFile(node, path, file)));
    return typeof memory === 'number' && typeof swap === 'number' ? memory + swap : 'max';
  },
  pids: either('pids', 'pids.max', 'pids.max'),
};

function either(controller: string, v1File: string, v2File: string): Read {
  return (node, path) => numberOf(cgroupFile(node, path, isInV2(node, controller) ? v2File : v1File));
}

function cpuMax(node: TestNode, path: string): (string | undefined)[] {
  return cgroupFile(node, path, 'cpu.max').split(' ');
}

/** v1 says no limit by -1, or by about the largest number that there is. */
function numberOf(text: string | undefined): number | 'max' {
  const value = Number(text);
  return text === 'max' || value < 0 || value > 2 ** 60 ? 'max' : value;
}

function v1Root(node: TestNode, controller: string): string | undefined {
  return node.daemon.hierarchies.find(({ name }) => name.split(',').includes(controller))?.root;
}

function v2Root(node: TestNode): string | undefined {
  return v1Root(node, 'unified');
}
