/** So many bytes of blobs are a good second of a disk's work, once they are files. */
const stepBytes = 32 * 1024 * 1024;

/** All that write now: the kernel may tell one of them of data of another's, and then tells nobody else. */
const underWay = new Set<WriteBehind>();

/**
 * Puts the file system on disk while layers are still being written: each time so many bytes of theirs have come, and
 * never twice at once. What is left for the sync at the end is then little, and the disk and the processor were at work
 * together. One after the other they take half as long again.
 */
export class WriteBehind implements AsyncDisposable {
  private readonly bytesOf = new Map<string, number>();
  private bytes = 0;
  private begunAt = 0;
  private running: Promise<void> | undefined;
  private failure: Error | undefined;

  constructor(private readonly sync: () => Promise<void>) {
    underWay.add(this);
  }

  /** Whether there was a sync, which may have failed. */
  get hasBegun(): boolean {
    return this.begunAt > 0;
  }

  /** So much of `what` has come so far. */
  reached(what: string, bytes: number): void {
    this.bytes += Math.max(bytes - (this.bytesOf.get(what) ?? 0), 0);
    this.bytesOf.set(what, bytes);
    if (this.running || this.bytes - this.begunAt < stepBytes) return;
    this.begunAt = this.bytes;
    this.running = this.synced().finally(() => void (this.running = undefined));
  }

  /**
   * Resolves once all that was written before the call is on disk. Rejects with what any sync has failed with since this began,
   * also of those who wrote at the same time: the kernel tells of data that it could not write only once.
   */
  async finish(): Promise<void> {
    await this.running;
    if (!this.failure) await this.synced();
    if (this.failure) throw this.failure;
  }

  /** Waits for the sync that is under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.running;
    underWay.delete(this);
  }

  private async synced(): Promise<void> {
    try {
      await this.sync();
    } catch (error) {
      const failure = error instanceof Error ? error : new Error(String(error));
      for (const one of underWay) one.failure ??= failure;
    }
  }
}
