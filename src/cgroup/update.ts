import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BerthError, errnoOf, isAbsent, messageOf } from '../base/errors';
import { write } from './files';
import type { LimitWrite } from './limits';
import { whyNotPassedOn } from './v2';

/** A limit to write, with the file that has it. */
export interface FileWrite extends LimitWrite {
  path: string;
  /** Where its hierarchy is mounted. */
  root: string;
}

interface Change {
  limit: FileWrite;
  /** What the file says now, each line a write of its own. */
  before: string;
}

/**
 * Changes limits of a cgroup that may be in use: all of them, or none. Each is
 * written in an order that the kernel takes; when one is refused, those before
 * it get their former values back, and the error names the one.
 *
 * @returns what puts the former values back, as far as the kernel lets it
 */
export async function changeLimits(limits: readonly FileWrite[]): Promise<() => Promise<void>> {
  const changes = inOrder(await readAll(limits));
  await refuseBelowUsage(changes);
  const done: Change[] = [];
  for (const change of changes) {
    try {
      await write(change.limit.path, change.limit.value);
      done.push(change);
    } catch (error) {
      throw limitError(change.limit, error, await putBack(done));
    }
  }
  return async () => void (await putBack(done));
}

/** What is there already is not written again. */
async function readAll(limits: readonly FileWrite[]): Promise<Change[]> {
  const changes: Change[] = [];
  for (const limit of limits) {
    const before = await readValue(limit);
    if (before !== undefined && before !== limit.value) changes.push({ limit, before });
  }
  return changes;
}

async function readValue(limit: FileWrite): Promise<string | undefined> {
  try {
    return (await readFile(limit.path, 'utf8')).trim();
  } catch (error) {
    if (isAbsent(error) && limit.ifThere) return undefined;
    throw limitError(limit, error);
  }
}

/**
 * Two pairs of v1 must fit each other at every moment: memory may not be more
 * than memory and swap, and a quota's share of its period not more than the
 * parent's (so the intermediate share is kept the smaller one).
 */
export function inOrder(changes: readonly Change[]): Change[] {
  const ordered = [...changes];
  const swap = (first: string, second: string) => {
    const [a, b] = [first, second].map(file => ordered.findIndex(({ limit }) => limit.file === file));
    if (a === undefined || b === undefined || a < 0 || b < 0 || a > b) return;
    const [one, other] = [ordered[a], ordered[b]];
    if (one && other) [ordered[a], ordered[b]] = [other, one];
  };
  const find = (file: string) => ordered.find(({ limit }) => limit.file === file);
  const memsw = find('memory.memsw.limit_in_bytes');
  if (memsw && isMore(memsw.limit.value, memsw.before)) swap('memory.limit_in_bytes', 'memory.memsw.limit_in_bytes');
  const period = find('cpu.cfs_period_us');
  if (period && BigInt(period.limit.value) < BigInt(period.before)) swap('cpu.cfs_period_us', 'cpu.cfs_quota_us');
  return ordered;
}

/** -1 is no limit. */
function isMore(value: string, other: string): boolean {
  return BigInt(value) < 0n || BigInt(value) > BigInt(other);
}

/** v2 ends processes to get below a new limit; v1 says EBUSY, and so does this. */
async function refuseBelowUsage(changes: readonly Change[]): Promise<void> {
  const max = changes.find(({ limit }) => limit.file === 'memory.max')?.limit;
  if (!max || max.value === 'max') return;
  const inUse = await unreclaimableBytes(max);
  if (inUse <= BigInt(max.value)) return;
  throw new BerthError(
    'failed_precondition',
    `set ${max.file}=${max.value} on ${max.path}: ${inUse} bytes are in use, beside caches`,
    { hint: 'the kernel would end processes; use less memory first' },
  );
}

async function unreclaimableBytes({ path }: FileWrite): Promise<bigint> {
  const dir = join(path, '..');
  const [current, stat] = await Promise.all(
    ['memory.current', 'memory.stat'].map(file => readFile(join(dir, file), 'utf8')),
  );
  const of = (key: string) => BigInt(new RegExp(`^${key} (\\d+)$`, 'm').exec(stat ?? '')?.[1] ?? 0);
  return BigInt((current ?? '').trim()) - of('inactive_file') - of('active_file') - of('slab_reclaimable');
}

/** A clause for the error's message: what could not be undone. */
async function putBack(done: readonly Change[]): Promise<string> {
  const left: string[] = [];
  for (const {
    limit: { file, path, value },
    before,
  } of [...done].reverse()) {
    try {
      for (const line of before.split('\n')) await write(path, line);
    } catch (error) {
      left.push(`${file} stays at ${value} (${messageOf(error)})`);
    }
  }
  return left.length === 0 ? '' : `, and ${left.join(', ')}`;
}

/** The sentence of a value that the kernel did not take; `more` is what else there is to say. */
export function limitError({ file, value, path, root, controller }: FileWrite, error: unknown, more = ''): BerthError {
  const what = `set ${file}=${value} on cgroup ${dirname(path)}`;
  if (isAbsent(error)) {
    return new BerthError('failed_precondition', `${what}: there is no such file${more}`, {
      cause: error,
      hint: whyNotPassedOn(root, dirname(path), controller) ?? 'the kernel lacks it',
    });
  }
  const isBusy = errnoOf(error) === 'EBUSY';
  return new BerthError(isBusy ? 'failed_precondition' : 'invalid_argument', `${what}: ${messageOf(error)}${more}`, {
    cause: error,
    ...(isBusy ? { hint: 'what is in use needs more' } : {}),
  });
}
