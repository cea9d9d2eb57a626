import { fileCallError, fileCalls, isOpaque, removeTree, type FileCall } from '../native/file-calls';

export { isOpaque, removeTree, type FileCall };

/** Calls that make directories, parents first. */
export function mkdirs(paths: readonly string[], mode: number): FileCall[] {
  return paths.map(path => ({ call: 'mkdir', path, mode }));
}

/**
 * Makes directories and files, in order and in one turn of a pool thread. A directory that is there already is fine;
 * else the first failure is thrown, after all calls were made.
 */
export async function makeFiles(calls: readonly FileCall[]): Promise<void> {
  for (const failure of await fileCalls(calls)) {
    if (failure.call.call !== 'mkdir' || failure.code !== 'EEXIST') throw fileCallError(failure);
  }
}
