import { readFileSync } from 'node:fs';

/** A file of `/proc/PID`; empty for a process that has ended. */
export function processText(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8').trim();
  } catch {
    return '';
  }
}
