import { Glob, type GlobPart } from './glob';

/**
 * Two ways to say which files are meant: that of a shell, as Go's filepath.Match has it, and that of .dockerignore,
 * which has `**` and exceptions besides.
 */

/** Whether a text has a character that makes it a pattern. */
export function isPattern(text: string): boolean {
  return /[*?[\\]/.test(text);
}

/** Matches one whole path: `*` and `?` stop at slashes, `[a-z]` and `[^a]` are classes. Undefined for a malformed pattern. */
export function pathPattern(pattern: string): Glob | undefined {
  return compiled(pattern, false);
}

/** A list of patterns as in .dockerignore: the last that matches a path, or a directory above it, decides. */
export class IgnorePatterns {
  private readonly patterns: { readonly negated: boolean; readonly text: string; readonly glob: Glob }[] = [];

  /** Throws a RangeError that names a malformed pattern. */
  constructor(lines: readonly string[]) {
    for (const line of lines) {
      const negated = line.startsWith('!');
      const text = cleaned(negated ? line.slice(1).trim() : line);
      if (text === '' || text === '.') continue;
      const glob = compiled(text, true);
      if (!glob) throw new RangeError(line);
      this.patterns.push({ negated, text, glob });
    }
  }

  get isEmpty(): boolean {
    return this.patterns.length === 0;
  }

  /** `path` without a slash at either end. */
  matches(path: string): boolean {
    let matched = false;
    for (const { negated, glob } of this.patterns)
      if (matched === negated && glob.matches(path, true)) matched = !negated;
    return matched;
  }

  /** Whether an exception may bring something back that is below this directory. */
  mayExceptBelow(directory: string): boolean {
    return this.patterns.some(({ negated, text }) => {
      if (!negated) return false;
      const fixed = /^[^*?[\\]*/.exec(text)?.[0] ?? '';
      return fixed.startsWith(`${directory}/`) || `${directory}/`.startsWith(fixed);
    });
  }
}

/** The patterns in the text of a .dockerignore. */
export function ignoreLines(text: string): string[] {
  return text
    .replace(/^\ufeff/, '')
    .split(/\r?\n/)
    .filter(line => !line.startsWith('#'))
    .map(line => line.trim())
    .filter(line => line !== '');
}

/** Without `.`, double slashes, and slashes at either end; `..` does not lead out. */
function cleaned(pattern: string): string {
  const parts: string[] = [];
  for (const part of pattern.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') parts.pop();
    else parts.push(part);
  }
  return parts.join('/');
}

const anything = () => true;
const notSlash = (character: string) => character !== '/';

/** Undefined for a malformed pattern. */
function compiled(pattern: string, hasDoubleStar: boolean): Glob | undefined {
  const parts: GlobPart[] = [];
  const characters = [...pattern];
  for (let i = 0; i < characters.length; i++) {
    const at = characters[i] ?? '';
    if (at === '*' && hasDoubleStar && characters[i + 1] === '*') {
      i++;
      if (characters[i + 1] === '/') i++;
      if (i + 1 >= characters.length) parts.push({ kind: 'many', takes: anything });
      else parts.push({ kind: 'optional', parts: 2 }, { kind: 'many', takes: anything }, one('/'));
    } else if (at === '*') parts.push({ kind: 'many', takes: notSlash });
    else if (at === '?') parts.push({ kind: 'one', takes: notSlash });
    else if (at === '[') {
      const found = classAt(characters, i);
      if (!found) return undefined;
      parts.push({ kind: 'one', takes: found.takes });
      i = found.end;
    } else if (at === '\\') {
      const next = characters[++i];
      if (next === undefined) return undefined;
      parts.push(one(next));
    } else parts.push(one(at));
  }
  return new Glob(parts);
}

function one(wanted: string): GlobPart {
  return { kind: 'one', takes: character => character === wanted };
}

/** The class that begins at `from`, and where it ends; undefined for none, or one that is empty or upside down. */
function classAt(
  characters: readonly string[],
  from: number,
): { takes: (character: string) => boolean; end: number } | undefined {
  const isNegated = characters[from + 1] === '^';
  const ranges: [string, string][] = [];
  let i = from + (isNegated ? 2 : 1);
  const next = () => (characters[i] === '\\' ? characters[++i] : characters[i]);
  for (; characters[i] !== ']'; i++) {
    const low = next();
    if (low === undefined) return undefined;
    const isRange = characters[i + 1] === '-' && characters[i + 2] !== ']';
    if (isRange) i += 2;
    const high = next();
    if (high === undefined || high < low) return undefined;
    ranges.push([low, high]);
  }
  if (ranges.length === 0) return undefined;
  const isIn = (character: string) => ranges.some(([low, high]) => low <= character && character <= high);
  return { takes: character => isIn(character) !== isNegated, end: i };
}
