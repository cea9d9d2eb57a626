/** What is needed of the stream that is drawn on. */
export interface Screen {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
}

/** Lines on a terminal that are replaced by what they have become. */
export class Redrawn {
  private drawn = 0;

  constructor(private readonly screen: Screen) {}

  /** No line wraps, and none scrolls away: then the cursor could not get back to it. */
  draw(lines: readonly string[]): void {
    const { columns = 80, rows = 24 } = this.screen;
    const fitting = lines.slice(0, Math.max(2, rows - 1)).map(line => [...line].slice(0, columns - 1).join(''));
    const up = this.drawn === 0 ? '' : `\x1b[${this.drawn}A`;
    this.screen.write(up + fitting.map(line => `\r\x1b[K${line}\n`).join('') + '\x1b[J');
    this.drawn = fitting.length;
  }
}
