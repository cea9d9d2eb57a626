import { ellipsis } from './names';

type TemplateFunction = (...args: unknown[]) => unknown;

/** Go's own functions and docker's, by name. They throw what is wrong with their arguments. */
export const functions: Readonly<Record<string, TemplateFunction>> = {
  json: value => JSON.stringify(value ?? null),
  len: value => lengthOf(value),
  index: (value, ...keys) => keys.reduce(elementOf, value),
  slice: (value, from = 0, to = undefined) => sliceOf(value, Number(from), to === undefined ? undefined : Number(to)),
  join: (list, separator = '') => listOf(list).map(textOf).join(textOf(separator)),
  split: (text, separator) => textOf(text).split(textOf(separator)),
  lower: text => textOf(text).toLowerCase(),
  upper: text => textOf(text).toUpperCase(),
  title: text => textOf(text).replace(/(^|\s)\S/g, first => first.toUpperCase()),
  pad: (text, before, after) => ' '.repeat(Number(before)) + textOf(text) + ' '.repeat(Number(after)),
  truncate: (text, length) => [...textOf(text)].slice(0, Number(length)).join(''),
  ellipsis: (text, length) => ellipsis(textOf(text), Number(length)),
  print: (...values) => values.map(textOf).join(''),
  println: (...values) => `${values.map(textOf).join(' ')}\n`,
  printf: (format, ...values) => formatted(textOf(format), values),
  eq: (first, ...others) => others.some(other => compared(first, other) === 0),
  ne: (first, second) => compared(first, second) !== 0,
  lt: (first, second) => compared(first, second) < 0,
  le: (first, second) => compared(first, second) <= 0,
  gt: (first, second) => compared(first, second) > 0,
  ge: (first, second) => compared(first, second) >= 0,
  and: (...values) => firstOf(values, value => !isTrue(value)),
  or: (...values) => firstOf(values, isTrue),
  not: value => !isTrue(value),
};

/** The last one where there is none; what is found may be null. */
function firstOf(values: readonly unknown[], isWanted: (value: unknown) => boolean): unknown {
  const found = values.findIndex(isWanted);
  return values.at(found); // -1 is the last
}

/** Go's notion: what is empty or zero is false. */
export function isTrue(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0;
  return Boolean(value);
}

/** As Go prints it: `[a b]`, `map[key:value]`, `<no value>`. */
export function textOf(value: unknown): string {
  if (value === undefined || value === null) return '<no value>';
  if (Array.isArray(value)) return `[${value.map(textOf).join(' ')}]`;
  if (typeof value === 'object') {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `map[${entries.map(([key, item]) => `${key}:${textOf(item)}`).join(' ')}]`;
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function lengthOf(value: unknown): number {
  if (typeof value === 'string') return Buffer.byteLength(value);
  if (Array.isArray(value)) return value.length;
  if (typeof value === 'object' && value !== null) return Object.keys(value).length;
  if (value === undefined || value === null) return 0;
  throw new Error('only texts, lists and objects have a length');
}

function elementOf(value: unknown, key: unknown): unknown {
  if (value === null || value === undefined) return undefined;
  if (Array.isArray(value)) {
    if (typeof key !== 'number' || key < 0 || key >= value.length) throw new Error(`${textOf(key)} is out of the list`);
    return value[key] as unknown;
  }
  if (typeof value !== 'object') throw new Error('it needs a list or an object');
  return Object.hasOwn(value, textOf(key)) ? (value as Record<string, unknown>)[textOf(key)] : '';
}

function sliceOf(value: unknown, from: number, to: number | undefined): unknown {
  if (typeof value === 'string' || Array.isArray(value)) return value.slice(from, to);
  throw new Error('it needs a text or a list');
}

function listOf(value: unknown): unknown[] {
  if (Array.isArray(value)) return value;
  if (value === undefined || value === null) return [];
  throw new Error('it needs a list');
}

function compared(first: unknown, second: unknown): number {
  if (typeof first === 'number' && typeof second === 'number') return first - second;
  if (typeof first === 'boolean' || typeof second === 'boolean') return first === second ? 0 : 1;
  const [a, b] = [textOf(first), textOf(second)];
  return a === b ? 0 : a < b ? -1 : 1;
}

/** `%s %d %v %q %t %x %f`, with a width and a minus for the left side; `%%`. */
function formatted(format: string, values: readonly unknown[]): string {
  let next = 0;
  return format.replace(
    /%(-?)(\d*)(?:\.(\d+))?([a-zA-Z%])/g,
    (whole, left: string, width: string, digits: string | undefined, verb: string) => {
      if (verb === '%') return '%';
      const text = verbText(verb, values[next++], digits);
      if (text === undefined) throw new Error(`${whole} is not understood`);
      return left === '' ? text.padStart(Number(width)) : text.padEnd(Number(width));
    },
  );
}

function verbText(verb: string, value: unknown, digits: string | undefined): string | undefined {
  switch (verb) {
    case 's':
    case 'v':
      return digits === undefined ? textOf(value) : [...textOf(value)].slice(0, Number(digits)).join('');
    case 'd':
    case 't':
      return textOf(value);
    case 'q':
      return JSON.stringify(textOf(value));
    case 'x':
      return typeof value === 'number' ? value.toString(16) : Buffer.from(textOf(value)).toString('hex');
    case 'f':
      return Number(value).toFixed(digits === undefined ? 6 : Number(digits));
    default:
      return undefined;
  }
}
