import { BerthError } from '../../base/errors';

/** A piece of a template: text between actions, and within `{{ }}` what an action is made of. */
export interface Token {
  kind: 'text' | 'open' | 'close' | 'field' | 'chained' | 'variable' | 'word' | 'value' | 'mark';
  /** Of fields and variables the name: `Names` of `.Names`, `$x` of `$x`; of `.` alone, nothing. */
  text: string;
  /** Of a literal. */
  value?: unknown;
}

/** Cuts a template into its pieces. A dash inside the braces takes the white space beside it away. */
export function tokensOf(template: string): Token[] {
  const tokens: Token[] = [];
  let rest = template;
  let trimsNext = false;
  for (let open; (open = rest.indexOf('{{')) >= 0;) {
    const close = endOfAction(rest, open);
    if (close < 0) throw wrong(template, 'an action is not closed with }}');
    const action = /^(-\s)?([\s\S]*?)(\s-)?$/.exec(rest.slice(open + 2, close)) ?? [];
    const [, trimsBefore, inside = '', trimsAfter] = action;
    text(tokens, rest.slice(0, open), trimsNext, trimsBefore !== undefined);
    if (!/^\s*\/\*[\s\S]*\*\/\s*$/.test(inside)) {
      tokens.push({ kind: 'open', text: '{{' }, ...tokensInside(template, inside), { kind: 'close', text: '}}' });
    }
    trimsNext = trimsAfter !== undefined;
    rest = rest.slice(close + 2);
  }
  text(tokens, rest, trimsNext, false);
  return tokens;
}

function text(tokens: Token[], between: string, trimsStart: boolean, trimsEnd: boolean): void {
  const started = trimsStart ? between.trimStart() : between;
  const trimmed = trimsEnd ? started.trimEnd() : started;
  // As they are written in shells.
  const plain = trimmed.replaceAll('\\t', '\t').replaceAll('\\n', '\n');
  if (plain !== '') tokens.push({ kind: 'text', text: plain });
}

/** The `}}` that is in no string. */
function endOfAction(template: string, open: number): number {
  const inside = /"(?:[^"\\]|\\.)*"|`[^`]*`|\}\}/g;
  inside.lastIndex = open + 2;
  for (let match; (match = inside.exec(template));) if (match[0] === '}}') return match.index;
  return -1;
}

const PATTERN = new RegExp(
  [
    String.raw`(?<space>\s+)`,
    String.raw`(?<string>"(?:[^"\\]|\\.)*")`,
    '(?<raw>`[^`]*`)',
    String.raw`(?<number>-?\d+(?:\.\d+)?)`,
    String.raw`(?<variable>\$\w*)`,
    String.raw`(?<field>\.\w*)`,
    String.raw`(?<word>[A-Za-z_]\w*)`,
    String.raw`(?<mark>:=|[=|(),])`,
  ].join('|'),
  'y',
);

function tokensInside(template: string, inside: string): Token[] {
  const tokens: Token[] = [];
  let isAfterSpace = true;
  PATTERN.lastIndex = 0;
  while (PATTERN.lastIndex < inside.length) {
    const from = PATTERN.lastIndex;
    const groups = PATTERN.exec(inside)?.groups;
    if (!groups) throw wrong(template, `${JSON.stringify(inside.slice(from, from + 10))} is not understood`);
    if (groups['space'] === undefined) tokens.push(tokenOf(template, groups, isAfterSpace, tokens.at(-1)));
    isAfterSpace = groups['space'] !== undefined;
  }
  return tokens;
}

function tokenOf(
  template: string,
  { string, raw, number, variable, field, word, mark }: Record<string, string>,
  isAfterSpace: boolean,
  before: Token | undefined,
): Token {
  if (string !== undefined) return { kind: 'value', text: string, value: unquoted(template, string) };
  if (raw !== undefined) return { kind: 'value', text: raw, value: raw.slice(1, -1) };
  if (number !== undefined) return { kind: 'value', text: number, value: Number(number) };
  if (variable !== undefined) return { kind: 'variable', text: variable };
  if (word !== undefined) return { kind: 'word', text: word };
  if (mark !== undefined) return { kind: 'mark', text: mark };
  const name = (field ?? '').slice(1);
  const canChain =
    !isAfterSpace && before && (['field', 'chained', 'variable'].includes(before.kind) || before.text === ')');
  return { kind: canChain ? 'chained' : 'field', text: name };
}

function unquoted(template: string, text: string): string {
  try {
    return JSON.parse(text.replace(/\\'/g, "'")) as string;
  } catch {
    throw wrong(template, `${text} is not a string`);
  }
}

function wrong(template: string, why: string): BerthError {
  return new BerthError('invalid_argument', `--format ${template}: ${why}`);
}
