/**
 * Lets one of those who come at the same time go on in each turn of the event loop, in the order in which they came: what
 * each does before it first waits adds up to no long stop of the loop. Whoever comes alone goes on at once.
 */
export class Turns {
  private readonly waiting: (() => void)[] = [];
  private isTaken = false;

  /** Undefined: go on at once. */
  next(): Promise<void> | undefined {
    if (this.isTaken) return new Promise(resolve => this.waiting.push(resolve));
    this.take();
    return undefined;
  }

  private take(): void {
    this.isTaken = true;
    setImmediate(() => {
      this.isTaken = false;
      const goOn = this.waiting.shift();
      if (!goOn) return;
      this.take();
      goOn();
    });
  }
}
