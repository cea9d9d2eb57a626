import { existsSync, mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/**
 * A new directory in `parent` whose name begins with `prefix` and says which process it is of; those are removed whose
 * process has ended without doing so. Pids are those of a namespace, and a cache may be shared with others.
 */
export function scratchDirectory(parent: string, prefix: string): string {
  mkdirSync(parent, { recursive: true });
  const own = `${prefix}${readlinkSync('/proc/self/ns/pid').replace(/\D/g, '')}-`;
  for (const name of readdirSync(parent)) {
    const pid = name.startsWith(own) ? /^(\d+)-/.exec(name.slice(own.length))?.[1] : undefined;
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(parent, name), { recursive: true, force: true });
  }
  return mkdtempSync(join(parent, `${own}${process.pid}-`));
}
