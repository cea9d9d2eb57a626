import { dirname, join } from 'node:path';
import { pathDown, readIfThere, treeOf } from './files';
import { homeOf, type Hierarchies } from './hierarchies';

export interface OomEvents {
  /** Processes of the cgroup and below it that the kernel's OOM killer has ended. */
  kills: bigint;
  /** Whether a memory limit of the cgroup's own was ever reached; if not, the memory ran out further up. */
  atLimit: boolean;
}

const NONE: OomEvents = { kills: 0n, atLimit: false };

/**
 * What the kernel counts of a cgroup; gone with it. Read in place: the files
 * come out of memory. A host without a memory controller counts nothing.
 */
export function oomEvents(hierarchies: Hierarchies, path: string): OomEvents {
  const home = homeOf(hierarchies, 'memory');
  if (!home) return NONE;
  const dir = join(home.mountpoint, path);
  return home.version === 2 ? eventsV2(dir) : eventsV1(dir);
}

/**
 * The nearest cgroup above whose own limit was ever reached; undefined when that is none. On v1 only the one right above is
 * asked: caches alone fill larger ones there, and nothing tells that from a want of memory.
 */
export function limitReachedAbove(hierarchies: Hierarchies, path: string): string | undefined {
  const home = homeOf(hierarchies, 'memory');
  if (!home) return undefined;
  const above = [...pathDown('/', dirname(path))].reverse();
  const asked = home.version === 2 ? above : above.slice(0, 1);
  return asked.find(at => oomEvents(hierarchies, at).atLimit);
}

/** memory.events counts the cgroups below, too; memory.events.local tells whose limit it was. */
function eventsV2(dir: string): OomEvents {
  return {
    kills: countOf(join(dir, 'memory.events'), 'oom_kill'),
    atLimit: countOf(join(dir, 'memory.events.local'), 'oom') > 0n,
  };
}

/** v1 counts each cgroup for itself. */
function eventsV1(dir: string): OomEvents {
  let kills = 0n;
  for (const at of treeOf(dir)) kills += countOf(join(at, 'memory.oom_control'), 'oom_kill');
  return { kills, atLimit: ['memory', 'memory.memsw'].some(counter => wasFull(dir, counter)) };
}

/** Memory is charged in batches of 32 pages: one that did not fit may have been asked for this far below the limit. */
const BATCH_BYTES = 32n * 4096n;

/** Not by memory.failcnt, which stays 0 on some kernels (6.18). */
function wasFull(dir: string, counter: string): boolean {
  const [most, limit] = ['max_usage_in_bytes', 'limit_in_bytes'].map(file =>
    readIfThere(join(dir, `${counter}.${file}`)),
  );
  return Boolean(most && limit) && BigInt(most ?? 0) + BATCH_BYTES >= BigInt(limit ?? 0);
}

function countOf(path: string, key: string): bigint {
  return BigInt(new RegExp(`^${key} (\\d+)$`, 'm').exec(readIfThere(path))?.[1] ?? 0);
}
