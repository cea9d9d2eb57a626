type Numbers = Uint8Array | Uint16Array | Int32Array | Uint32Array | Float64Array;

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

  static of(make: (length: number) => Numbers): Column {
    return new Column(make(FIRST_ROOM), make);
  }

  static bytes = () => Column.of(length => new Uint8Array(length));
  static shorts = () => Column.of(length => new Uint16Array(length));
  /** Whole numbers, -1 for none. */
  static ints = () => Column.of(length => new Int32Array(length));
  static words = () => Column.of(length => new Uint32Array(length));
  static sizes = () => Column.of(length => new Float64Array(length));

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

  copy(): Column {
    const copy = new Column(this.make(this.data.length), this.make);
    copy.data.set(this.data);
    copy.length = this.length;
    return copy;
  }
}
