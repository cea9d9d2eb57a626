import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Whether the last daemon of this root saw its machine go down in order: the file
 * `<root>/boot` holds the boot's id and, once the daemon has stopped, a word that
 * says so. A daemon that was killed leaves the page cache, and so its layers,
 * whole; a machine that went down under one may not.
 */
export interface BootMark {
  /** The machine is up since before the last daemon: what that wrote can be read, synced or not. */
  readonly sameBoot: boolean;
  /** The machine went down while a daemon ran; or nothing is known. */
  readonly unclean: boolean;
  /** From here on only an orderly stop is a clean one; to be called once `unclean` has been acted upon. */
  begin(): void;
  /** The daemon stops, and all that it wrote is on disk. */
  end(): void;
}

export function readBootMark(root: string, bootId = ownBootId()): BootMark {
  const path = join(root, 'boot');
  const [id, state] = readOrEmpty(path).trim().split(' ');
  const sameBoot = id === bootId;
  return {
    sameBoot,
    unclean: !sameBoot && state !== 'stopped',
    begin: () => writeSynced(path, `${bootId} running\n`),
    end: () => writeSynced(path, `${bootId} stopped\n`),
  };
}

function ownBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // no mark is no proof of a clean stop
  }
}

/** In place, so that it works on a full disk, too: a line that is cut off by a power cut is no proof, and says so. */
function writeSynced(path: string, line: string): void {
  const fd = openSync(path, 'a+', 0o600);
  closeSync(fd);
  const file = openSync(path, 'r+');
  try {
    writeSync(file, line, 0);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
