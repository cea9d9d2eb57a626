import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** Empty, and made for one pull. */
export interface FreshFileSystem {
  readonly dir: string;
  remove(): void;
}

const bytes = 4 * 2 ** 30;

/**
 * Makes a directory on this machine's own disk, below `parent`, which has those below it begin in parts of the disk of
 * their own (ext4's attribute T), away from files that others have just deleted as long as there are such parts. It goes with the
 * scratch directory, since deleting it now would be the next one's to pay for.
 */
export function makeFreshDirectory(parent: string, name: string): FreshFileSystem {
  const dir = join(parent, name);
  mkdirSync(parent, { recursive: true });
  execFileSync('chattr', ['+T', parent]);
  mkdirSync(dir);
  return { dir, remove: () => undefined };
}

/**
 * Makes an ext4 with a journal, as nodes have, in a file beside `dir` and mounts it on `dir`. Nothing was ever deleted
 * on it, whatever the one before did: an ext4 without a journal, as small virtual machines have, passes over inodes that
 * were freed in the last minutes one by one, and unpacking takes ten times as long beside a tree that has just gone.
 */
export function makeFileSystem(dir: string): FreshFileSystem {
  const file = `${dir}.ext4`;
  mkdirSync(dir);
  execFileSync('fallocate', ['-l', String(bytes), file]);
  // Everything is initialised here: the kernel would do it in the background, at somebody's cost.
  const options = ['-q', '-F', '-m', '0', '-i', '16384', '-E', 'lazy_itable_init=0,lazy_journal_init=0,nodiscard'];
  execFileSync('mkfs.ext4', [...options, file]);
  // Not by direct I/O: small writes to a file on a loop device are slow then, and whoever syncs often pays for it.
  execFileSync('mount', ['-o', 'loop', file, dir]);
  return {
    dir,
    remove: () => {
      execFileSync('umount', [dir]);
      rmSync(file);
    },
  };
}
