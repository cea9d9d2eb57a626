import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { nativePath } from '../src/native/paths';

/**
 * Loaded into the daemon that is measured, before it: on SIGUSR2 writes what its event loop has been through since the
 * last time to the file that BERTH_BENCH_LAG names, and begins anew. Until the first it does not look: a look a millisecond is
 * work that no other daemon has.
 */
export interface Lag {
  /** The longest that the loop was not there, above what a loop at rest shows. */
  worstMs: number;
  p99Ms: number;
  /** Of the time, in which the loop had something to do. */
  busyMs: number;
  /** Of it, in calls of the addon until they return: what starts processes, and all else that the kernel is asked for there. */
  nativeMs: number;
  /** The longest of these calls. */
  longestNativeMs: number;
}

const RESOLUTION_MS = 1;

if (process.env['BERTH_BENCH_LAG']) watch(process.env['BERTH_BENCH_LAG']);

function watch(file: string): void {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  let since = performance.eventLoopUtilization();
  const native = timeNativeCalls();
  process.on('SIGUSR2', () => {
    const above = (ns: number) => Math.max(0, ns / 1e6 - RESOLUTION_MS);
    const now = performance.eventLoopUtilization();
    const lag: Lag = {
      worstMs: above(delay.max),
      p99Ms: above(delay.percentile(99)),
      busyMs: now.active - since.active,
      nativeMs: native.totalMs,
      longestNativeMs: native.longestMs,
    };
    native.totalMs = native.longestMs = 0;
    since = now;
    delay.reset();
    delay.enable();
    writeFileSync(`${file}.new`, JSON.stringify(lag));
    writeFileSync(file, JSON.stringify(lag));
  });
}

/** Puts functions that are timed in the place of the addon's, before the daemon loads it. */
function timeNativeCalls(): { totalMs: number; longestMs: number } {
  const calls = { totalMs: 0, longestMs: 0 };
  const path = nativePath('berth.node');
  const load = createRequire(__filename);
  const addon = load(path) as Record<string, (...args: unknown[]) => unknown>;
  const timed = Object.entries(addon).map(([name, call]) => {
    const time = (...args: unknown[]) => {
      const begin = performance.now();
      try {
        return call(...args);
      } finally {
        const took = performance.now() - begin;
        calls.totalMs += took;
        calls.longestMs = Math.max(calls.longestMs, took);
      }
    };
    return [name, time] as const;
  });
  const cached = load.cache[path];
  if (!cached) throw new Error(`${path} was loaded and is not there`);
  cached.exports = Object.fromEntries(timed);
  return calls;
}
