/** What a pattern consists of, in order. */
export type GlobPart =
  /** One character. */
  | { readonly kind: 'one'; readonly takes: (character: string) => boolean }
  /** Any number of them. */
  | { readonly kind: 'many'; readonly takes: (character: string) => boolean }
  /** The next `parts` may be left out. */
  | { readonly kind: 'optional'; readonly parts: number };

/** Where a match begins and ends, in characters. */
interface GlobMatch {
  readonly from: number;
  readonly to: number;
}

const nowhere = 0x7fffffff;

/**
 * A pattern whose positions move through a text side by side: what that costs is at most the product of both lengths,
 * where a regular expression tries all ways through its stars. Patterns and texts may be a stranger's.
 */
export class Glob {
  /** At each position where the match that has come there began, the leftmost: one for each part, and the end. */
  private at: Int32Array;
  private next: Int32Array;
  /** Behind this position there is nothing. */
  private last = -1;

  constructor(private readonly parts: readonly GlobPart[]) {
    this.at = new Int32Array(parts.length + 1);
    this.next = new Int32Array(parts.length + 1);
  }

  /** Whether it is the whole text; with `orAbove` a directory above the path `text` will do. */
  matches(text: string, orAbove = false): boolean {
    this.clear();
    this.enter(0);
    for (const character of text) {
      if (orAbove && character === '/' && this.matchAtEnd !== undefined) return true;
      if (!this.move(character)) return false;
    }
    return this.matchAtEnd !== undefined;
  }

  /** How long the shortest and the longest beginning are that match; undefined when none does. */
  beginnings(text: readonly string[]): { shortest: number; longest: number } | undefined {
    this.clear();
    this.enter(0);
    let found: { shortest: number; longest: number } | undefined;
    for (let i = 0; ; i++) {
      if (this.matchAtEnd !== undefined) found = { shortest: found?.shortest ?? i, longest: i };
      const character = text[i];
      if (character === undefined || !this.move(character)) return found;
    }
  }

  /** The first match from `begin` on, and of those that begin there the longest. */
  find(text: readonly string[], begin: number): GlobMatch | undefined {
    this.clear();
    let found: GlobMatch | undefined;
    for (let i = begin; ; i++) {
      if (!found) this.enter(i);
      const from = this.matchAtEnd;
      if (from !== undefined && (!found || from <= found.from)) found = { from, to: i };
      if (found) this.forgetAfter(found.from);
      const character = text[i];
      if (character === undefined || (!this.move(character) && found)) return found;
    }
  }

  private get matchAtEnd(): number | undefined {
    const from = this.at[this.parts.length];
    return from === nowhere ? undefined : from;
  }

  private clear(): void {
    this.at.fill(nowhere);
    this.next.fill(nowhere);
    this.last = -1;
  }

  /** A match may begin here. */
  private enter(from: number): void {
    this.last = Math.max(this.last, put(this.at, 0, from));
    this.leap();
  }

  /** False when nothing is left that could become a match. */
  private move(character: string): boolean {
    const { at, next, parts } = this;
    let last = -1;
    for (let i = 0; i <= this.last; i++) {
      const from = at[i] ?? nowhere;
      if (from === nowhere) continue;
      at[i] = nowhere;
      const part = parts[i];
      if (part === undefined || part.kind === 'optional' || !part.takes(character)) continue;
      last = put(next, part.kind === 'many' ? i : i + 1, from);
    }
    this.at = next;
    this.next = at;
    this.last = last;
    if (last >= 0) this.leap();
    return last >= 0;
  }

  /** To where no character is needed; that is always ahead. */
  private leap(): void {
    const { at, parts } = this;
    for (let i = 0; i <= this.last; i++) {
      const from = at[i] ?? nowhere;
      const part = parts[i];
      if (from === nowhere || part === undefined || part.kind === 'one') continue;
      this.last = Math.max(this.last, put(at, i + 1, from));
      if (part.kind === 'optional') this.last = Math.max(this.last, put(at, i + 1 + part.parts, from));
    }
  }

  private forgetAfter(begin: number): void {
    for (let i = 0; i <= this.last; i++) if ((this.at[i] ?? nowhere) > begin) this.at[i] = nowhere;
  }
}

/** Returns the position. */
function put(at: Int32Array, i: number, from: number): number {
  if (from < (at[i] ?? nowhere)) at[i] = from;
  return i;
}
