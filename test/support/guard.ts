import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { killIfThere } from './processes';

const INTERRUPTED_STATUS = 130;

const removals = new Set<() => Promise<void>>();
let isWatching = false;
let isInterrupted = false;

/**
 * Has what a test has made of the machine removed when the tests do not come to it: by `remove` when they are interrupted,
 * and by the command `afterKill` once this process was killed. That one runs in a session of its own, with `what` as its last
 * argument, a line, which nobody sees before among the processes, and `namespaceFd` as its descriptor 3. Returns what ends
 * the watch, for when all is removed.
 */
export function guard(
  remove: () => Promise<void>,
  afterKill: readonly string[],
  what: string,
  namespaceFd?: number,
): () => void {
  if (isInterrupted) throw new Error('nothing new is made: the tests were interrupted');
  watchSignals();
  removals.add(remove);
  const script = 'IFS= read -r what || exit; cat > /dev/null; exec "$@" "$what"';
  const watcher = spawn('sh', ['-c', script, 'guard', ...afterKill], {
    stdio: ['pipe', 'ignore', 'inherit', ...(namespaceFd === undefined ? [] : [namespaceFd])],
    detached: true,
  });
  watcher.unref();
  const stdin = watcher.stdin as Socket;
  stdin.unref();
  stdin.on('error', () => undefined).write(`${what}\n`);
  return () => {
    removals.delete(remove);
    if (watcher.pid !== undefined) killIfThere(-watcher.pid);
  };
}

function watchSignals(): void {
  if (isWatching) return;
  isWatching = true;
  // The second one ends the process at once, as without this.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => void removeAll());
}

async function removeAll(): Promise<void> {
  isInterrupted = true;
  console.error('Interrupted: removing what the tests have made.');
  for (const outcome of await Promise.allSettled([...removals].map(remove => remove()))) {
    if (outcome.status === 'rejected') console.error(outcome.reason);
  }
  process.exit(INTERRUPTED_STATUS);
}
