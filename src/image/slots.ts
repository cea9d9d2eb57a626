import type { Context } from '../base/context';

/** So many at a time; the others wait in line. */
export class Slots {
  private readonly waiting: (() => void)[] = [];

  constructor(private free: number) {}

  async run<T>(ctx: Context, work: () => Promise<T>): Promise<T> {
    await this.take(ctx);
    try {
      return await work();
    } finally {
      this.give();
    }
  }

  private async take(ctx: Context): Promise<void> {
    ctx.throwIfEnded();
    if (this.free > 0) {
      this.free--;
      return;
    }
    let granted = false;
    let grant: () => void = () => undefined;
    const turn = new Promise<void>(resolve => {
      grant = () => {
        granted = true;
        resolve();
      };
    });
    this.waiting.push(grant);
    try {
      await ctx.race(turn);
    } catch (error) {
      const place = this.waiting.indexOf(grant);
      if (place >= 0) this.waiting.splice(place, 1);
      if (granted) this.give();
      throw error;
    }
  }

  private give(): void {
    const next = this.waiting.shift();
    if (next) next();
    else this.free++;
  }
}
