import assert from 'node:assert/strict';
import type { TestDaemon } from './daemon';
import { residentBytes } from './leaks';

/** So many sessions are begun and broken off; BERTH_TEST_SESSIONS=10000 takes minutes. */
const SESSIONS = Number(process.env['BERTH_TEST_SESSIONS'] ?? 500);

export const SESSIONS_WITHIN_MS = 60_000 + SESSIONS * 200;

/** What a heap takes and gives back without anything being left, as far as seen. */
const BREATH_BYTES = 48 * 1024 * 1024;

/** Runs `round`, which is `each` sessions, until there were enough of them; the daemon's memory must not grow with their number. */
export async function many(daemon: TestDaemon, each: number, round: () => Promise<void>): Promise<void> {
  const rounds = Math.ceil(SESSIONS / each);
  let atHalf = 0;
  for (let i = 0; i < rounds; i++) {
    await round();
    if (i === Math.floor(rounds / 2)) atHalf = residentBytes(daemon.pid);
  }
  const grown = residentBytes(daemon.pid) - atHalf;
  assert.ok(grown < BREATH_BYTES, `the second half of ${rounds * each} sessions took ${grown} bytes of memory`);
}
