import { DockerfileError, type Place } from './error';

/** A text that an instruction has in the lines behind it: `<<EOF`. */
export interface Heredoc {
  readonly name: string;
  readonly content: string;
  /** Its delimiter is not quoted: variables in it are replaced. */
  readonly expand: boolean;
  /** `<<-`: tabs at the beginning of its lines are not part of it. */
  readonly chomp: boolean;
}

/** An instruction as it is written: its word, and the rest of it on one line. */
export interface Instruction extends Place {
  /** In capitals. */
  readonly word: string;
  /** `--name` or `--name=value`, in order. */
  readonly flags: readonly string[];
  readonly rest: string;
  readonly heredocs: readonly Heredoc[];
  /** As it is written, without comments, on one line. */
  readonly original: string;
}

export interface ParsedLines {
  readonly escape: '\\' | '`';
  /** Parser directives: syntax, escape, check. */
  readonly directives: ReadonlyMap<string, string>;
  readonly instructions: readonly Instruction[];
  readonly warnings: readonly string[];
}

/** Instructions that may have heredocs. */
const withHeredocs = new Set(['ADD', 'COPY', 'RUN']);
/** Instructions whose words of the form `--x` are theirs. */
const withFlags = new Set(['ADD', 'COPY', 'FROM', 'HEALTHCHECK', 'RUN']);

/** Splits a Dockerfile into its instructions: directives, comments, continued lines and heredocs. */
export function parseLines(text: string): ParsedLines {
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  const { directives, escape } = readDirectives(lines);
  const reader = new Reader(lines, escape);
  const instructions: Instruction[] = [];
  for (let next = reader.next(); next; next = reader.next()) instructions.push(next);
  return { escape, directives, instructions, warnings: reader.warnings };
}

const knownDirectives = ['syntax', 'escape', 'check'];

/** Comments of the form `# key=value` at the very beginning; the first other line ends them. */
function readDirectives(lines: readonly string[]): { directives: Map<string, string>; escape: '\\' | '`' } {
  const directives = new Map<string, string>();
  for (const [i, line] of lines.entries()) {
    if (i === 0 && line.startsWith('#!')) continue;
    const [, key = '', value = ''] = /^\s*#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$/.exec(line) ?? [];
    const name = key.toLowerCase();
    if (!knownDirectives.includes(name)) break;
    if (directives.has(name))
      throw new DockerfileError({ line: i + 1, endLine: i + 1 }, `the parser directive ${name} comes twice`);
    directives.set(name, value);
  }
  const escape = directives.get('escape') ?? '\\';
  if (escape !== '\\' && escape !== '`')
    throw new DockerfileError({ line: 1, endLine: 1 }, `escape=${escape}: it is \\ or \``);
  return { directives, escape };
}

class Reader {
  readonly warnings: string[] = [];
  private at = 0;
  /** Ends with the escape character, not escaped itself, and maybe blanks. */
  private readonly continued: RegExp;

  constructor(
    private readonly lines: readonly string[],
    private readonly escape: '\\' | '`',
  ) {
    const mark = escape === '\\' ? '\\\\' : '`';
    this.continued = new RegExp(`^(|.*[^${mark}])${mark}[ \\t]*$`, 's');
  }

  next(): Instruction | undefined {
    while (this.at < this.lines.length && isNothing(this.lines[this.at] ?? '')) this.at++;
    if (this.at >= this.lines.length) return undefined;
    const line = this.at + 1;
    const text = this.logicalLine();
    const [, word = '', behind = ''] = /^(\S+)\s*([^]*)$/.exec(text) ?? [];
    const name = word.toUpperCase();
    const { flags, rest } = withFlags.has(name) ? splitFlags(behind) : { flags: [], rest: behind };
    const inner = name === 'ONBUILD' ? (/^(\S+)/.exec(rest)?.[1] ?? '').toUpperCase() : name;
    const heredocs = withHeredocs.has(inner) ? this.heredocs(rest, line) : [];
    return { word: name, flags, rest: rest.trimEnd(), heredocs, original: text.trim(), line, endLine: this.at };
  }

  /** One line and those that continue it; comments and empty lines among them are left out. */
  private logicalLine(): string {
    const first = this.at + 1;
    let text = '';
    let start = true;
    while (this.at < this.lines.length) {
      const line = this.lines[this.at++] ?? '';
      if (!start && isNothing(line)) {
        if (line.trim() === '') this.warn(`line ${this.at}: an empty line within an instruction`);
        continue;
      }
      const part = start ? line.trimStart() : line;
      start = false;
      const [, before] = this.continued.exec(part) ?? [];
      if (before === undefined) return text + part.trimEnd();
      text += before;
    }
    if (text.trim() === '') throw new DockerfileError({ line: first, endLine: this.at }, 'the instruction is empty');
    return text;
  }

  private warn(text: string): void {
    if (!this.warnings.includes(text)) this.warnings.push(text);
  }

  private heredocs(rest: string, line: number): Heredoc[] {
    return heredocWords(rest, this.escape).map(({ name, expand, chomp }) => {
      const found: string[] = [];
      for (;;) {
        const next = this.lines[this.at++];
        if (next === undefined)
          throw new DockerfileError({ line, endLine: this.lines.length }, `the heredoc ${name} has no end`, {
            hint: `a line that is ${name} ends it`,
          });
        const own = chomp ? next.replace(/^\t+/, '') : next;
        if (own === name) break;
        found.push(own);
      }
      return { name, expand, chomp, content: found.map(text => `${text}\n`).join('') };
    });
  }
}

function isNothing(line: string): boolean {
  return /^\s*(#.*)?$/.test(line);
}

/** Words that begin with `--`, before the first that does not; `--` alone ends them. Quotes keep blanks in a word. */
function splitFlags(text: string): { flags: string[]; rest: string } {
  const flags: string[] = [];
  let rest = text.trimStart();
  while (rest.startsWith('--')) {
    const [word = ''] = /^(?:"(?:\\.|[^"])*"|'[^']*'|\\.|[^\s])+/.exec(rest) ?? [];
    rest = rest.slice(word.length).trimStart();
    if (word === '--') break;
    flags.push(
      word.replace(/"((?:\\.|[^"])*)"|'([^']*)'/g, (_, double?: string, single?: string) => double ?? single ?? ''),
    );
  }
  return { flags, rest };
}

/** The words of a line that announce heredocs. */
function heredocWords(text: string, escape: string): { name: string; expand: boolean; chomp: boolean }[] {
  const found: { name: string; expand: boolean; chomp: boolean }[] = [];
  for (const word of rawWords(text, escape)) {
    const [, dash, rawName = ''] = /^\d*<<(-?)([^<]*)$/.exec(word) ?? [];
    if (dash === undefined || rawName === '') continue;
    const name = rawName.replace(/^(["'])(.*)\1$/, '$2');
    if (name !== '') found.push({ name, expand: name === rawName, chomp: dash === '-' });
  }
  return found;
}

/** Words with their quotes, split at blanks outside of quotes. */
export function rawWords(text: string, escape: string): string[] {
  const words: string[] = [];
  let word = '';
  let quote = '';
  for (let i = 0; i < text.length; i++) {
    const at = text.charAt(i);
    if (at === escape && quote !== "'" && i + 1 < text.length) word += at + text.charAt(++i);
    else if (quote === '' && /\s/.test(at)) {
      if (word !== '') words.push(word);
      word = '';
    } else {
      if (at === quote) quote = '';
      else if (quote === '' && (at === '"' || at === "'")) quote = at;
      word += at;
    }
  }
  return word === '' ? words : [...words, word];
}
