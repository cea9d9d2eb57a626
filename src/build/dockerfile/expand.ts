import { Glob, type GlobPart } from '../../base/glob';

/** The value of a variable, or undefined when it has none. */
export type Lookup = (name: string) => string | undefined;

/** A text that a variable's substitution refuses: `${x:?why}`, or one that has no end. */
export class ExpansionError extends Error {}

/**
 * Replaces variables in a text as a Dockerfile has them, takes quotes away, and lets the escape character take the next
 * one as it is. What has no value is empty.
 */
export function expand(text: string, lookup: Lookup, escape = '\\'): string {
  return new Expander(text, lookup, escape, 'whole').run();
}

/** The same, split at blanks that are neither quoted nor escaped nor out of a quoted variable. */
export function expandWords(text: string, lookup: Lookup, escape = '\\'): string[] {
  const expander = new Expander(text, lookup, escape, 'whole');
  expander.run();
  return expander.words;
}

/** Variables alone, for the text of a heredoc: quotes are part of it. */
export function expandText(text: string, lookup: Lookup, escape = '\\'): string {
  return new Expander(text, lookup, escape, 'variables').run();
}

/** By how much variables may make a text longer, in characters: a few lines that double one would need all memory. */
const growthMax = 1024 * 1024;
/** Of substitutions within one another. */
const depthMax = 100;

class Expander {
  readonly words: string[] = [];
  private at = 0;
  private depth = 0;
  private word: string | undefined;

  constructor(
    private readonly text: string,
    private readonly lookup: Lookup,
    private readonly escape: string,
    private readonly mode: 'whole' | 'variables',
  ) {}

  run(): string {
    let out = '';
    while (this.at < this.text.length) out = this.grown(out, this.next());
    this.endWord();
    return out;
  }

  /** A text without variables may be as long as it is. */
  private grown(text: string, more: string): string {
    return limited(text + more, this.text.length + growthMax);
  }

  private next(): string {
    const at = this.text.charAt(this.at);
    if (this.mode === 'whole' && at === "'") return this.add(this.single());
    if (this.mode === 'whole' && at === '"') return this.add(this.double());
    if (at === '$') return this.addSplit(this.dollar());
    if (at === this.escape && this.at + 1 < this.text.length) return this.add(this.escaped());
    this.at++;
    if (!/\s/.test(at)) return this.add(at);
    this.endWord();
    return at;
  }

  private escaped(): string {
    const next = this.text.charAt(this.at + 1);
    this.at += 2;
    return this.mode === 'whole' || next === '$' || next === this.escape ? next : this.escape + next;
  }

  private add(text: string): string {
    this.word = (this.word ?? '') + text;
    return text;
  }

  /** What a variable outside of quotes has: its blanks separate words. */
  private addSplit(text: string): string {
    const [first = '', ...rest] = text.split(/\s+/);
    if (first !== '') this.add(first);
    for (const part of rest) {
      this.endWord();
      if (part !== '') this.add(part);
    }
    return text;
  }

  private endWord(): void {
    if (this.word !== undefined) this.words.push(this.word);
    this.word = undefined;
  }

  private single(): string {
    const end = this.text.indexOf("'", this.at + 1);
    if (end < 0) throw new ExpansionError("a ' has no end");
    const inner = this.text.slice(this.at + 1, end);
    this.at = end + 1;
    return inner;
  }

  private double(): string {
    let out = '';
    for (this.at++; ;) {
      const at = this.text.charAt(this.at);
      if (at === '') throw new ExpansionError('a " has no end');
      if (at === '"') break;
      if (at === '$') {
        out = this.grown(out, this.dollar());
        continue;
      }
      const next = this.text.charAt(this.at + 1);
      // Within quotes it escapes only what would mean something there.
      const isEscape = at === this.escape && (next === '"' || next === '$' || next === this.escape);
      out += isEscape ? next : at;
      this.at += isEscape ? 2 : 1;
    }
    this.at++;
    return out;
  }

  private dollar(): string {
    this.at++;
    if (this.text.charAt(this.at) === '{') return this.braced();
    const [name = ''] = /^(?:[a-zA-Z_]\w*|[0-9@*#?$!-])/.exec(this.text.slice(this.at)) ?? [];
    if (name === '') return '$';
    this.at += name.length;
    return this.valueOf(name) ?? '';
  }

  /** Positional and special parameters of a shell are empty here. */
  private valueOf(name: string): string | undefined {
    return /^[a-zA-Z_]/.test(name) ? this.lookup(name) : undefined;
  }

  private braced(): string {
    const [, name] = /^\{([a-zA-Z_]\w*|[0-9@*#?$!-])/.exec(this.text.slice(this.at)) ?? [];
    if (name === undefined) throw new ExpansionError(`\${${this.text.slice(this.at + 1, this.at + 20)}: no name`);
    this.at += 1 + name.length;
    const value = this.valueOf(name);
    if (this.text.charAt(this.at) === '}') {
      this.at++;
      return value ?? '';
    }
    const [operator = ''] = /^(?::[-+?]|[-+?]|##?|%%?|\/\/?)/.exec(this.text.slice(this.at)) ?? [];
    if (operator === '')
      throw new ExpansionError(`\${${name}${this.text.charAt(this.at)}…}: this form of substitution is not known`);
    this.at += operator.length;
    if (++this.depth > depthMax) throw new ExpansionError(`more than ${depthMax} substitutions within one another`);
    const modified = this.modified(name, value, operator);
    this.depth--;
    return modified;
  }

  private modified(name: string, value: string | undefined, operator: string): string {
    if (operator.startsWith('/')) return replaced(value ?? '', this.until('/}', true), operator, this.replacement());
    const word = this.until('}', /^[#%]/.test(operator));
    this.at++;
    if (/^[#%]/.test(operator)) return trimmed(value ?? '', word, operator);
    const isThere = value !== undefined && !(operator.startsWith(':') && value === '');
    switch (operator.slice(-1)) {
      case '-':
        return isThere ? value : word;
      case '+':
        return isThere ? word : '';
      default:
        if (isThere) return value;
        throw new ExpansionError(`${name}: ${word || 'it is not set'}`);
    }
  }

  private replacement(): string {
    const isThere = this.text.charAt(this.at) === '/';
    if (isThere) this.at++;
    const text = isThere ? this.until('}', false) : '';
    this.at++;
    return text;
  }

  /** What stands before one of `ends`, expanded itself; stays there. */
  private until(ends: string, isPattern: boolean): string {
    let out = '';
    for (;;) {
      const at = this.text.charAt(this.at);
      if (at === '') throw new ExpansionError('a ${ has no end');
      if (ends.includes(at)) return out;
      if (at === '$') out = this.grown(out, this.dollar());
      else if (at === "'") out += this.single();
      else if (at === '"') out += this.double();
      else if (at === this.escape && this.at + 1 < this.text.length) {
        // In a pattern it goes on to mean itself.
        out += (isPattern ? '\\' : '') + this.text.charAt(this.at + 1);
        this.at += 2;
      } else {
        out += at;
        this.at++;
      }
    }
  }
}

/** `*` and `?` of a shell; the escape takes the next character as it is. */
function partsOf(pattern: string): GlobPart[] {
  const characters = [...pattern];
  const parts: GlobPart[] = [];
  for (let i = 0; i < characters.length; i++) {
    const at = characters[i] ?? '';
    if (at === '*') parts.push({ kind: 'many', takes: () => true });
    else if (at === '?') parts.push({ kind: 'one', takes: () => true });
    else {
      const wanted = at === '\\' && i + 1 < characters.length ? characters[++i] : at;
      parts.push({ kind: 'one', takes: character => character === wanted });
    }
  }
  return parts;
}

/** `#` and `##` take a beginning away, `%` and `%%` an end, which is a beginning from behind. */
function trimmed(value: string, pattern: string, operator: string): string {
  const isEnd = operator.startsWith('%');
  const inOrder = <T>(list: T[]) => (isEnd ? list.reverse() : list);
  const characters = inOrder([...value]);
  const found = new Glob(inOrder(partsOf(pattern))).beginnings(characters);
  if (!found) return value;
  return inOrder(characters.slice(operator.length === 2 ? found.longest : found.shortest)).join('');
}

function replaced(value: string, pattern: string, operator: string, replacement: string): string {
  if (pattern === '') return value;
  const characters = [...value];
  const glob = new Glob(partsOf(pattern));
  let out = '';
  let at = 0;
  do {
    const found = glob.find(characters, at);
    if (!found) break;
    out = limited(out + characters.slice(at, found.from).join('') + replacement, value.length + growthMax);
    at = found.to;
  } while (operator === '//' && at < characters.length);
  return out + characters.slice(at).join('');
}

function limited(text: string, lengthMax: number): string {
  if (text.length <= lengthMax) return text;
  throw new ExpansionError(`what its variables make of it is longer than ${lengthMax} characters`);
}
