/** Two kinds and no more: V8 compiles what works on a few. */
type Numbers = Int32Array | Float64Array;

const FIRST_ROOM = 256;

/**
 * Numbers in a row, of one width, as many as come. Images have files by the 100,000: as objects they would take some hundred
 * bytes each, and the garbage collector would look at all of them again and again.
 */
export class Column {
  length = 0;

  private constructor(
    private data: Numbers,
    private readonly make: (length: number) => Numbers,
  ) {}

  /** Whole numbers of 32 bits, or -1 for none. */
  static ints(): Column {
    return new Column(new Int32Array(FIRST_ROOM), length => new Int32Array(length));
  }

  static sizes(): Column {
    return new Column(new Float64Array(FIRST_ROOM), length => new Float64Array(length));
  }

  get(at: number): number {
    return this.data[at] ?? 0;
  }

  set(at: number, value: number): void {
    this.data[at] = value;
  }

  push(value: number): void {
    if (this.length === this.data.length) {
      const bigger = this.make(this.length * 2);
      bigger.set(this.data);
      this.data = bigger;
    }
    this.data[this.length++] = value;
  }
}
