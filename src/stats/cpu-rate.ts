/** A rate is over at least so long, as far as there are readings: shorter ones mostly tell of the scheduler's tick. */
const WINDOW_MS = 1000;
const SHORTEST_MS = 100;

interface Sample {
  atMs: number;
  cpuNs: number;
}

/** Turns readings of CPU time into a rate, whoever asks for them how often. */
export class CpuRate {
  private before: Sample | undefined;
  private latest: Sample | undefined;

  /** Billionths of a core; undefined at the first reading. `atMs` is a time that only goes forward. */
  add(atMs: number, cpuNs: number): number | undefined {
    const now = { atMs, cpuNs };
    // A cgroup that was made anew counts from nothing.
    if (!this.latest || cpuNs < this.latest.cpuNs) {
      this.before = undefined;
      this.latest = now;
      return undefined;
    }
    if (atMs - this.latest.atMs >= WINDOW_MS) {
      this.before = this.latest;
      this.latest = now;
    }
    return rate(this.before ?? this.latest, now);
  }
}

function rate(from: Sample, to: Sample): number | undefined {
  const ms = to.atMs - from.atMs;
  return ms < SHORTEST_MS ? undefined : ((to.cpuNs - from.cpuNs) / ms) * 1000;
}
