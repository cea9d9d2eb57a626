/** Counts who still needs a thing: what would take it away waits until nobody does. */
export class Holds {
  private readonly counts = new Map<string, number>();
  private readonly waiters = new Map<string, (() => void)[]>();

  /** Needs `key` until disposed. */
  hold(key: string): Disposable {
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) this.release(key);
        isHeld = false;
      },
    };
  }

  isHeld(key: string): boolean {
    return this.counts.has(key);
  }

  /** Resolves when nobody needs `key`. */
  async free(key: string): Promise<void> {
    while (this.counts.has(key)) {
      await new Promise<void>(resolve => this.waiters.set(key, [...(this.waiters.get(key) ?? []), resolve]));
    }
  }

  private release(key: string): void {
    const left = (this.counts.get(key) ?? 0) - 1;
    if (left > 0) {
      this.counts.set(key, left);
      return;
    }
    this.counts.delete(key);
    const waiters = this.waiters.get(key) ?? [];
    this.waiters.delete(key);
    for (const waiter of waiters) waiter();
  }
}
