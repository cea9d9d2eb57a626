import { readdir, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError, isAbsent } from './errors';

/**
 * Of what git has checked out: removes the repository's own `.git`, and what submodules have in its place. Links are not
 * followed: they lead to repositories of whose machine this is.
 */
export async function removeGitDirs(root: string): Promise<void> {
  const hasModules = (await readdir(root)).includes('.gitmodules');
  await rm(join(root, '.git'), { recursive: true, force: true });
  if (!hasModules) return;
  const dirs = [root];
  for (let dir = dirs.pop(); dir !== undefined; dir = dirs.pop()) {
    for (const entry of await readdir(dir, { withFileTypes: true })) {
      const path = join(dir, entry.name);
      if (entry.name === '.git') await rm(path, { recursive: true, force: true });
      else if (entry.isDirectory()) dirs.push(path);
    }
  }
}

/**
 * Where a directory of a checked out repository is; throws `not_found`, of `what`, when it is none. A link on the way may
 * lead anywhere, and so is not followed out of the repository.
 */
export async function directoryIn(root: string, directory: string, what: string): Promise<string> {
  if (directory === '') return root;
  try {
    const [top, found] = await Promise.all([realpath(root), realpath(join(root, directory))]);
    await readdir(found);
    if (found.startsWith(`${top}/`)) return found;
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
  throw new BerthError('not_found', `${what}: the repository has no directory ${JSON.stringify(directory)}`);
}
