import { writeFileSync } from 'node:fs';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';

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
}

const RESOLUTION_MS = 1;

if (process.env['BERTH_BENCH_LAG']) watch(process.env['BERTH_BENCH_LAG']);

function watch(file: string): void {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  let since = performance.eventLoopUtilization();
  process.on('SIGUSR2', () => {
    const above = (ns: number) => Math.max(0, ns / 1e6 - RESOLUTION_MS);
    const now = performance.eventLoopUtilization();
    const lag: Lag = {
      worstMs: above(delay.max),
      p99Ms: above(delay.percentile(99)),
      busyMs: now.active - since.active,
    };
    since = now;
    delay.reset();
    delay.enable();
    writeFileSync(`${file}.new`, JSON.stringify(lag));
    writeFileSync(file, JSON.stringify(lag));
  });
}
