import { Column } from './columns';

const FIRST_BYTES = 16 * 1024;

/** Many short texts of one byte a character, by number. */
export class Texts {
  private readonly starts = Column.sizes();
  private bytes = Buffer.alloc(FIRST_BYTES);
  private end = 0;

  constructor() {
    this.starts.push(0);
  }

  get count(): number {
    return this.starts.length - 1;
  }

  /** Its number, from 0. */
  add(text: string): number {
    while (this.end + text.length > this.bytes.length) {
      const bigger = Buffer.alloc(this.bytes.length * 2);
      this.bytes.copy(bigger, 0, 0, this.end);
      this.bytes = bigger;
    }
    this.bytes.write(text, this.end, 'latin1');
    this.end += text.length;
    this.starts.push(this.end);
    return this.count - 1;
  }

  get(number: number): string {
    return this.bytes.toString('latin1', this.starts.get(number), this.starts.get(number + 1));
  }

  is(number: number, text: string): boolean {
    const start = this.starts.get(number);
    if (this.starts.get(number + 1) - start !== text.length) return false;
    for (let i = 0; i < text.length; i++) if (this.bytes[start + i] !== text.charCodeAt(i)) return false;
    return true;
  }
}
