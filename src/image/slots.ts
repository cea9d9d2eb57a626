import type { Context } from '../base/context';

interface Waiting {
  readonly owner: object;
  readonly grant: () => void;
}

/**
 * So many at a time; the others wait in line. An owner of whose work nothing runs does not wait: whoever takes all places
 * and does not come to an end, as a registry that sends a byte now and then, keeps nobody else.
 */
export class Slots {
  private readonly waiting: Waiting[] = [];
  private readonly busy = new Map<object, number>();
  private running = 0;

  constructor(private readonly limit: number) {}

  async run<T>(ctx: Context, owner: object, work: () => Promise<T>): Promise<T> {
    await this.take(ctx, owner);
    try {
      return await work();
    } finally {
      this.give(owner);
    }
  }

  private async take(ctx: Context, owner: object): Promise<void> {
    ctx.throwIfEnded();
    if (this.running < this.limit || !this.busy.has(owner)) return this.start(owner);
    let granted = false;
    let grant: () => void = () => undefined;
    const turn = new Promise<void>(resolve => {
      grant = () => {
        granted = true;
        resolve();
      };
    });
    const place = { owner, grant };
    this.waiting.push(place);
    try {
      await ctx.race(turn);
    } catch (error) {
      if (granted) this.give(owner);
      else this.waiting.splice(this.waiting.indexOf(place), 1);
      throw error;
    }
  }

  private start(owner: object): void {
    this.running++;
    this.busy.set(owner, (this.busy.get(owner) ?? 0) + 1);
  }

  private give(owner: object): void {
    this.running--;
    const left = (this.busy.get(owner) ?? 1) - 1;
    if (left > 0) this.busy.set(owner, left);
    else this.busy.delete(owner);
    for (let next = this.nextTurn(); next; next = this.nextTurn()) {
      this.start(next.owner);
      next.grant();
    }
  }

  private nextTurn(): Waiting | undefined {
    const at = this.running < this.limit ? 0 : this.waiting.findIndex(({ owner }) => !this.busy.has(owner));
    return at < 0 ? undefined : this.waiting.splice(at, 1)[0];
  }
}
