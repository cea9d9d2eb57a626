/**
 * Two ways to say which files are meant: that of a shell, as Go's filepath.Match has it, and that of .dockerignore,
 * which has `**` and exceptions besides.
 */

/** Whether a text has a character that makes it a pattern. */
export function isPattern(text: string): boolean {
  return /[*?[\\]/.test(text);
}

/** Matches one whole path: `*` and `?` stop at slashes, `[a-z]` and `[^a]` are classes. Undefined for a malformed pattern. */
export function pathPattern(pattern: string): RegExp | undefined {
  return compiled(sourceOf(pattern, false));
}

/** A list of patterns as in .dockerignore: the last that matches a path, or a directory above it, decides. */
export class IgnorePatterns {
  private readonly patterns: { readonly negated: boolean; readonly text: string; readonly regexp: RegExp }[] = [];

  /** Throws a RangeError that names a malformed pattern. */
  constructor(lines: readonly string[]) {
    for (const line of lines) {
      const negated = line.startsWith('!');
      const text = cleaned(negated ? line.slice(1).trim() : line);
      if (text === '' || text === '.') continue;
      const regexp = compiled(sourceOf(text, true));
      if (!regexp) throw new RangeError(line);
      this.patterns.push({ negated, text, regexp });
    }
  }

  get isEmpty(): boolean {
    return this.patterns.length === 0;
  }

  /** `path` without a slash at either end. */
  matches(path: string): boolean {
    const parts = path.split('/');
    const above = parts.map((_, i) => parts.slice(0, i + 1).join('/'));
    let matched = false;
    for (const { negated, regexp } of this.patterns)
      if (matched === negated && above.some(each => regexp.test(each))) matched = !negated;
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

function compiled(source: string | undefined): RegExp | undefined {
  try {
    return source === undefined ? undefined : new RegExp(`^${source}$`, 's');
  } catch {
    return undefined;
  }
}

function sourceOf(pattern: string, hasDoubleStar: boolean): string | undefined {
  let source = '';
  for (let i = 0; i < pattern.length; i++) {
    const at = pattern.charAt(i);
    if (at === '*' && hasDoubleStar && pattern.charAt(i + 1) === '*') {
      i++;
      if (pattern.charAt(i + 1) === '/') i++;
      source += i + 1 >= pattern.length ? '.*' : '(?:.*/)?';
    } else if (at === '*') source += '[^/]*';
    else if (at === '?') source += '[^/]';
    else if (at === '[') {
      const end = classEnd(pattern, i);
      if (end === undefined) return undefined;
      source += pattern.slice(i, end + 1).replace(/\[(?!\^|$)/g, (bracket, at: number) => (at === 0 ? bracket : '\\['));
      i = end;
    } else if (at === '\\') {
      if (++i === pattern.length) return undefined;
      source += quoted(pattern.charAt(i));
    } else source += quoted(at);
  }
  return source;
}

/** Where the class that begins at `from` ends; a `]` right at its beginning is not its end. */
function classEnd(pattern: string, from: number): number | undefined {
  let i = from + 1;
  if (pattern.charAt(i) === '^') i++;
  if (pattern.charAt(i) === ']') return undefined;
  for (; i < pattern.length; i++) {
    if (pattern.charAt(i) === '\\') i++;
    else if (pattern.charAt(i) === ']') return i;
  }
  return undefined;
}

function quoted(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
}
