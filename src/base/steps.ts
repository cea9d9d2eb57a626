/** Hears where the time of a piece of work goes, as it goes. Times are nanoseconds on the clock of `process.hrtime`. */
export interface Steps {
  /** A step of `work` has ended; both are of small, fixed sets: `CreateContainer`, `make the spec`. */
  step(work: string, name: string, fromNs: bigint, toNs: bigint): void;
  /** From now on the work is at this; the text may say of what. */
  stage(text: string): void;
}
