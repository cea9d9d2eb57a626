/** What must not be collected although no record names it yet: layer keys and digests that a pull is about to use. */
export class Pins {
  private readonly counts = new Map<string, number>();

  /** `others` have names that stay, too. */
  constructor(private readonly others: { has(name: string): boolean } = { has: () => false }) {}

  has(name: string): boolean {
    return this.counts.has(name) || this.others.has(name);
  }

  /** Pins the names that `work` hands over, until it has ended. */
  async during<T>(work: (pin: (name: string) => void) => Promise<T>): Promise<T> {
    const mine: string[] = [];
    try {
      return await work(name => {
        mine.push(name);
        this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
      });
    } finally {
      for (const name of mine) this.unpin(name);
    }
  }

  private unpin(name: string): void {
    const left = (this.counts.get(name) ?? 0) - 1;
    if (left > 0) this.counts.set(name, left);
    else this.counts.delete(name);
  }
}
