/**
 * usage: after-kill.js daemon REMAINS 3</proc/PID/ns/mnt
 *        after-kill.js real FOLDER
 *
 * Removes what tests had made that were killed: the command of their guards (guard.ts).
 */
import { readlinkSync } from 'node:fs';
import { removeRealDaemon } from '../cli/real/harness';
import { removeRemains, type Remains } from './remains';

async function main([kind, what = '']: string[]): Promise<void> {
  if (kind === 'real') await removeRealDaemon(what);
  else await removeRemains(JSON.parse(what) as Remains, readlinkSync('/proc/self/fd/3'));
}

void main(process.argv.slice(2));
