/**
 * Templates as users of docker write them: Go's text/template, as far as it works on data alone. Actions are fields,
 * variables, pipelines, if, range, with, and the functions in template-functions.ts. A template is parsed once; what is
 * wrong with it is an `invalid_argument` that quotes it.
 */
import { BerthError } from '../../base/errors';
import { functions, isTrue, textOf } from './template-functions';
import { tokensOf, type Token } from './template-tokens';

/** What templates work on: parsed JSON. */
type Value = unknown;

export type GoTemplate = (data: Value) => string;

type Expression = (scope: Scope) => Value;
type Block = (scope: Scope) => string;

/** Where an expression is evaluated: what `.` is, and the variables. */
class Scope {
  constructor(
    readonly dot: Value,
    private readonly variables: Map<string, Value>,
    private readonly outer?: Scope,
  ) {}

  /** The same variables, and new ones of its own. */
  inner(dot: Value): Scope {
    return new Scope(dot, new Map(), this);
  }

  declare(name: string, value: Value): void {
    this.variables.set(name, value);
  }

  assign(name: string, value: Value): void {
    if (this.variables.has(name)) this.variables.set(name, value);
    else this.outer?.assign(name, value);
  }

  get(name: string): Value {
    return this.variables.has(name) ? this.variables.get(name) : this.outer?.get(name);
  }

  has(name: string): boolean {
    return this.variables.has(name) || (this.outer?.has(name) ?? false);
  }
}

/** `show` is what a text of the data goes through before it is printed. */
export function parseGoTemplate(text: string, show: (text: string) => string = same): GoTemplate {
  const parser = new Parser(text, tokensOf(text), show);
  const block = parser.whole();
  return data => block(new Scope(data, new Map([['$', data]])));
}

function same(text: string): string {
  return text;
}

/** A template that cannot be, or cannot be with this data. */
function refused(text: string, why: string): BerthError {
  return new BerthError('invalid_argument', `--format ${text === '' ? "''" : text}: ${why}`, {
    hint: 'templates are like {{.Name}}, {{json .}}, {{range .List}}…{{end}}',
  });
}

/** By recursive descent: a block is texts and actions, an action a pipeline, a pipeline commands, a command operands. */
class Parser {
  private at = 0;

  constructor(
    private readonly text: string,
    private readonly tokens: readonly Token[],
    private readonly show: (text: string) => string,
  ) {}

  whole(): Block {
    const block = this.block();
    if (this.at < this.tokens.length) throw this.wrong(`{{${this.peek()?.text ?? ''}}} has no beginning`);
    return block;
  }

  /** Up to `else`, `end` or the end of the template. */
  private block(): Block {
    const parts: Block[] = [];
    for (let token; (token = this.peek());) {
      if (token.kind === 'text') {
        this.at++;
        const { text } = token;
        parts.push(() => text);
      } else if (
        this.tokens[this.at + 1]?.kind === 'word' &&
        /^(end|else)$/.test(this.tokens[this.at + 1]?.text ?? '')
      ) {
        break;
      } else {
        this.take('open');
        parts.push(this.action());
      }
    }
    return scope => parts.map(part => part(scope)).join('');
  }

  private action(): Block {
    const word = this.peek()?.kind === 'word' ? this.peek()?.text : undefined;
    switch (word) {
      case 'if':
      case 'with':
        this.at++;
        return this.branch(word);
      case 'range':
        this.at++;
        return this.range();
      default: {
        const { value, isSilent } = this.pipeline();
        this.take('close');
        return isSilent ? scope => (value(scope), '') : scope => this.print(value(scope));
      }
    }
  }

  private print(value: Value): string {
    return typeof value === 'string' ? this.show(value) : this.show(textOf(value));
  }

  private branch(kind: 'if' | 'with'): Block {
    const { value } = this.pipeline();
    this.take('close');
    const then = this.block();
    const otherwise = this.otherwise(kind);
    return scope => {
      const inner = scope.inner(scope.dot);
      const found = value(inner);
      if (!isTrue(found)) return otherwise(inner);
      return then(kind === 'with' ? inner.inner(found) : inner);
    };
  }

  /** What follows `{{else}}`, or nothing; ends after `{{end}}`. */
  private otherwise(kind: 'if' | 'with' | 'range'): Block {
    this.take('open');
    const word = this.take('word').text;
    if (word === 'end') {
      this.take('close');
      return () => '';
    }
    const next = this.peek();
    if (next?.kind === 'word' && next.text === kind && kind !== 'range') {
      this.at++;
      return this.branch(kind);
    }
    this.take('close');
    const block = this.block();
    this.take('open');
    if (this.take('word').text !== 'end') throw this.wrong('{{else}} comes twice');
    this.take('close');
    return block;
  }

  private range(): Block {
    const names = this.names();
    const { value } = this.pipeline();
    this.take('close');
    const body = this.block();
    const otherwise = this.otherwise('range');
    return scope => {
      const found = entriesOf(value(scope));
      if (!found) throw this.wrong('{{range}} needs a list or an object');
      if (found.length === 0) return otherwise(scope.inner(scope.dot));
      return found.map(([key, item]) => body(this.bound(scope.inner(item), names, key, item))).join('');
    };
  }

  private bound(scope: Scope, names: readonly string[], key: Value, item: Value): Scope {
    const [first, second] = names;
    if (second !== undefined && first !== undefined) {
      scope.declare(first, key);
      scope.declare(second, item);
    } else if (first !== undefined) {
      scope.declare(first, item);
    }
    return scope;
  }

  /** `$i, $e :=` of a range. */
  private names(): string[] {
    const start = this.at;
    const names: string[] = [];
    while (this.peek()?.kind === 'variable') {
      names.push(this.take('variable').text);
      if (this.peek()?.text !== ',') break;
      this.at++;
    }
    if (names.length > 0 && this.peek()?.text === ':=') {
      this.at++;
      return names;
    }
    this.at = start;
    return [];
  }

  /** Silent: it sets a variable. */
  private pipeline(): { value: Expression; isSilent: boolean } {
    const variable = this.peek();
    const operator = this.tokens[this.at + 1]?.text;
    if (variable?.kind === 'variable' && (operator === ':=' || operator === '=')) {
      this.at += 2;
      const value = this.commands();
      const set = (scope: Scope) => {
        const found = value(scope);
        if (operator === ':=') scope.declare(variable.text, found);
        else scope.assign(variable.text, found);
        return found;
      };
      return { value: set, isSilent: true };
    }
    return { value: this.commands(), isSilent: false };
  }

  private commands(): Expression {
    let value = this.command(undefined);
    while (this.peek()?.text === '|' && this.peek()?.kind === 'mark') {
      this.at++;
      value = this.command(value);
    }
    return value;
  }

  /** A function with its arguments, of which a pipe's value is the last; or one operand. */
  private command(piped: Expression | undefined): Expression {
    const token = this.peek();
    if (token?.kind === 'word' && !['true', 'false', 'nil'].includes(token.text)) {
      this.at++;
      return this.call(token.text, [...this.operands(), ...(piped ? [piped] : [])]);
    }
    const operand = this.operand();
    if (!operand) throw this.wrong('an action is empty');
    const args = [...this.operands(), ...(piped ? [piped] : [])];
    return args.length === 0 ? operand : this.callField(operand, args);
  }

  private call(name: string, args: readonly Expression[]): Expression {
    const act = Object.hasOwn(functions, name) ? functions[name] : undefined;
    if (!act) throw this.wrong(`there is no function ${name}`);
    return scope => {
      const values = args.map(arg => arg(scope));
      try {
        return act(...values);
      } catch (error) {
        throw this.wrong(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      }
    };
  }

  /** `.Label "key"`: what docker has as a method. */
  private callField(field: Expression, args: readonly Expression[]): Expression {
    return scope => {
      const found = field(scope);
      if (typeof found !== 'function') throw this.wrong('only functions take arguments');
      return (found as (...values: Value[]) => Value)(...args.map(arg => arg(scope)));
    };
  }

  private operands(): Expression[] {
    const found: Expression[] = [];
    for (let operand; (operand = this.operand());) found.push(operand);
    return found;
  }

  private operand(): Expression | undefined {
    const token = this.peek();
    const primary = token && this.primary(token);
    if (!primary) return undefined;
    let value = primary;
    // Fields that follow without a space: $x.Name, (index .List 0).Name
    while (this.peek()?.kind === 'chained') {
      const { text } = this.take('chained');
      const before = value;
      value = scope => this.field(before(scope), text);
    }
    return value;
  }

  private primary(token: Token): Expression | undefined {
    switch (token.kind) {
      case 'field':
        this.at++;
        return token.text === '' ? scope => scope.dot : scope => this.field(scope.dot, token.text);
      case 'variable':
        this.at++;
        return scope => {
          if (!scope.has(token.text)) throw this.wrong(`there is no variable ${token.text}`);
          return scope.get(token.text);
        };
      case 'value':
        this.at++;
        return () => token.value;
      case 'word': {
        const constants: Readonly<Record<string, Value>> = { true: true, false: false, nil: null };
        if (Object.hasOwn(constants, token.text)) {
          this.at++;
          return () => constants[token.text];
        }
        this.at++;
        return this.call(token.text, []);
      }
      case 'mark': {
        if (token.text !== '(') return undefined;
        this.at++;
        const { value } = this.pipeline();
        if (this.peek()?.text !== ')') throw this.wrong('a parenthesis is not closed');
        this.at++;
        return value;
      }
      default:
        return undefined;
    }
  }

  private field(value: Value, name: string): Value {
    if (value === null || value === undefined) return undefined;
    if (typeof value !== 'object' || Array.isArray(value)) throw this.wrong(`.${name} of what has no fields`);
    if (Object.hasOwn(value, name)) return (value as Record<string, Value>)[name];
    const names = Object.keys(value);
    throw this.wrong(`there is no .${name}; fields are ${names.map(one => `.${one}`).join(' ') || 'none'}`);
  }

  private peek(): Token | undefined {
    return this.tokens[this.at];
  }

  private take(kind: Token['kind']): Token {
    const token = this.tokens[this.at];
    if (token?.kind !== kind) {
      const found = token ? `"${token.text}"` : 'its end';
      throw this.wrong(kind === 'open' || kind === 'word' ? 'an {{end}} is missing' : `${found} is out of place`);
    }
    this.at++;
    return token;
  }

  private wrong(why: string): BerthError {
    return refused(this.text, why);
  }
}

/** Of objects in the order of their keys, as Go has it. */
function entriesOf(value: Value): [Value, Value][] | undefined {
  if (value === null || value === undefined) return [];
  if (Array.isArray(value)) return value.map((item, i) => [i, item as Value]);
  if (typeof value === 'object') return Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  if (typeof value === 'number') return Array.from({ length: value }, (_, i) => [i, i]);
  return undefined;
}
