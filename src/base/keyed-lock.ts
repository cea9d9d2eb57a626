/** One queue per key: work of the same key runs one after the other, work of different keys side by side. */
export class KeyedLock {
  private readonly tails = new Map<string, Promise<void>>();

  /** Runs `work` once all earlier work of this key has ended, however it ended. */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.tails.get(key) ?? Promise.resolve();
    const result = before.then(work);
    const tail = result.then(
      () => undefined,
      () => undefined,
    );
    this.tails.set(key, tail);
    try {
      return await result;
    } finally {
      if (this.tails.get(key) === tail) this.tails.delete(key);
    }
  }
  /** As `run`, for work that ends when what this resolves to is disposed. */
  async take(key: string): Promise<Disposable> {
    return new Promise(resolve => {
      void this.run(key, () => new Promise<void>(release => resolve({ [Symbol.dispose]: release })));
    });
  }
}
