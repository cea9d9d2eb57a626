import type { Context } from './context';

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

  /** As `run`, for work that ends when what this resolves to is disposed; throws when `ctx` ends before its turn. */
  async turn(ctx: Context, key: string): Promise<Disposable> {
    let end: () => void = () => undefined;
    const held = new Promise<void>(resolve => (end = resolve));
    const entered = new Promise<void>(resolve => {
      void this.run(key, () => {
        resolve();
        return held;
      });
    });
    try {
      await ctx.race(entered);
      return { [Symbol.dispose]: end };
    } catch (error) {
      end();
      throw error;
    }
  }
}
