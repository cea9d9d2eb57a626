import { constants, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, isAbsent } from '../base/errors';
import { addon } from '../native/addon';
import { fileCallError, fileCalls } from '../native/file-calls';

/** For a file that must be there: asked to make one, a cgroup tree answers EACCES. */
export const WRITE_EXISTING = constants.O_WRONLY | constants.O_TRUNC;

/** Writes may wait for locks of the kernel's, and go to the pool: by one turn, where writeFile takes three. */
export async function write(path: string, value: string): Promise<void> {
  for (const failure of await fileCalls([{ call: 'write', path, data: value }])) throw fileCallError(failure);
}

/** False when the file is not there, or its cgroup is being removed. */
export async function writeIfThere(path: string, value: string): Promise<boolean> {
  try {
    await write(path, value);
    return true;
  } catch (error) {
    if (isGone(error)) return false;
    throw error;
  }
}

/**
 * A file that the kernel fills from memory without taking cgroup_mutex, read at
 * once, where the pool takes four turns. Empty when it is not there.
 */
export function readIfThere(path: string): string {
  try {
    return addon().readText(path).trim();
  } catch (error) {
    if (isGone(error)) return '';
    throw error;
  }
}

/** The same of a file that must be there. */
export function readWord(path: string): string {
  return addon().readText(path).trim();
}

/** The directories from below `root` down to `dir`. */
export function* pathDown(root: string, dir: string): Generator<string> {
  let at = root;
  for (const part of dir.slice(root.length).split('/')) {
    if (part === '') continue;
    at = join(at, part);
    yield at;
  }
}

/** A cgroup's directory and all below it, parents first; none when it is not there. A container may have made some. */
export function* treeOf(dir: string): Generator<string> {
  const below = subdirectories(dir);
  if (below === undefined) return;
  yield dir;
  for (const name of below) yield* treeOf(join(dir, name));
}

function subdirectories(dir: string): string[] | undefined {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter(entry => entry.isDirectory())
      .map(entry => entry.name);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** ENODEV is said of a file whose cgroup was removed after it was opened, ESRCH of a process's. */
function isGone(error: unknown): boolean {
  return isAbsent(error) || ['ENODEV', 'ESRCH'].includes(errnoOf(error) ?? '');
}
