/** A list of which one line is chosen, and of which as many lines are seen as there is room for. */
export class Scroll {
  chosen = 0;
  private first = 0;
  private room = 1;

  constructor(private count: number) {}

  /** The list is another one now. */
  resize(count: number): void {
    this.count = count;
    this.choose(this.chosen);
  }

  choose(line: number): void {
    this.chosen = Math.max(0, Math.min(line, this.count - 1));
  }

  /** True when the key moves in lists. */
  key(name: string): boolean {
    const to = this.target(name);
    if (to === undefined) return false;
    this.choose(to);
    return true;
  }

  /** The numbers of the lines that are seen in so much room, the chosen one among them. */
  seen(room: number): number[] {
    this.room = Math.max(1, room);
    const latest = Math.max(0, this.count - this.room);
    this.first = Math.min(Math.max(this.first, this.chosen - this.room + 1), this.chosen, latest);
    const seen = Math.min(this.room, this.count - this.first);
    return Array.from({ length: Math.max(0, seen) }, (_, i) => this.first + i);
  }

  private target(name: string): number | undefined {
    switch (name) {
      case 'up':
      case 'k':
        return this.chosen - 1;
      case 'down':
      case 'j':
        return this.chosen + 1;
      case 'page-up':
        return this.chosen - this.room;
      case 'page-down':
        return this.chosen + this.room;
      case 'home':
      case 'g':
        return 0;
      case 'end':
      case 'G':
        return this.count - 1;
      default:
        return undefined;
    }
  }
}
