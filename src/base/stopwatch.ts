import type { Steps } from './steps';

/** One step of a piece of work: its name, when it began after the whole, and how long it took, both in microseconds. */
export interface Lap {
  step: string;
  atUs: number;
  us: number;
}

/** Tells where the time of a piece of work goes; to `steps`, too, as it goes. */
export class Stopwatch {
  /** Grows as steps end; whoever has the list sees it grow. */
  readonly laps: Lap[] = [];
  /** On the clock of `process.hrtime`. */
  readonly beganNs = process.hrtime.bigint();
  private since = this.beganNs;

  constructor(
    private readonly work = '',
    private readonly steps?: Steps,
  ) {}

  /** A step has ended that began when the one before did. */
  lap(step: string): void {
    this.add(step, this.since, process.hrtime.bigint());
  }

  /** Times a step that runs beside others; the next lap begins at its end, or at that of the last of them. */
  async time<T>(step: string, work: () => Promise<T>): Promise<T> {
    const from = process.hrtime.bigint();
    try {
      return await work();
    } finally {
      this.add(step, from, process.hrtime.bigint());
    }
  }

  private add(step: string, from: bigint, to: bigint): void {
    this.laps.push({ step, atUs: micros(from - this.beganNs), us: micros(to - from) });
    this.steps?.step(this.work, step, from, to);
    this.since = to;
  }
}

/** Whole microseconds. */
export function micros(ns: bigint): number {
  return Number((ns + 500n) / 1000n);
}
