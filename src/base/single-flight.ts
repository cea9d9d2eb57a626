/** Joins calls that ask for the same thing at the same time: the second waits for the first and gets its result. */
export class SingleFlight<T> {
  private readonly flights = new Map<string, Promise<T>>();

  /** Runs `work` unless a call with this key is under way; its result, or error, goes to all who asked meanwhile. */
  async run(key: string, work: () => Promise<T>): Promise<T> {
    const flying = this.flights.get(key);
    if (flying) return flying;
    const flight = work().finally(() => this.flights.delete(key));
    this.flights.set(key, flight);
    return flight;
  }

  /** Waits until what is under way now with keys that begin with `prefix` has ended, however it ends. */
  async idle(prefix: string): Promise<void> {
    const flying = [...this.flights].filter(([key]) => key.startsWith(prefix)).map(([, flight]) => flight);
    await Promise.allSettled(flying);
  }

  has(key: string): boolean {
    return this.flights.has(key);
  }
}
