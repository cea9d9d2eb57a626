const windowMs = 500;
const halfLifeMs = 2000;

/** Bytes a second, smoothed: what came longer ago counts less, and in a stall it falls to nothing. */
export class Rate {
  private average: number | undefined;
  private bytes = 0;

  constructor(private since: number) {}

  add(bytes: number, nowMs: number): void {
    this.bytes += bytes;
    if (nowMs - this.since >= windowMs) this.fold(nowMs);
  }

  at(nowMs: number): number {
    if (nowMs - this.since >= windowMs) this.fold(nowMs);
    return this.average ?? (nowMs > this.since ? (this.bytes * 1000) / (nowMs - this.since) : 0);
  }

  private fold(nowMs: number): void {
    const elapsedMs = nowMs - this.since;
    const current = (this.bytes * 1000) / elapsedMs;
    const weight = 1 - 0.5 ** (elapsedMs / halfLifeMs);
    this.average = this.average === undefined ? current : this.average + weight * (current - this.average);
    this.bytes = 0;
    this.since = nowMs;
  }
}
