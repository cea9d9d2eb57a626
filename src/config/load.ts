import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BerthError, isAbsent, messageOf } from '../base/errors';
import { lineOfKey } from './line-of-key';
import { nearest } from './nearest';
import { type Config, schema, toConfig } from './schema';
import { lineOfSyntaxError, parseToml } from '../base/toml';

const defaultConfigFile = '/etc/berth/config.toml';

/** Flags of the command line; they win over every file. */
export interface ConfigFlags {
  /** Must exist when given; the default file need not. */
  file?: string;
  root?: string;
  state?: string;
}

type Table = Record<string, unknown>;
type KeyPath = readonly PropertyKey[];

interface Source {
  file: string;
  text: string;
  values: Table;
}

/**
 * Reads the configuration file, then the `*.toml` of `config.d` beside it in the order of their names, then the flags.
 * Tables are merged key by key; a later value replaces an earlier one, lists as a whole. Everything that is wrong is
 * reported in one error, a line for each, with file and line.
 */
export function loadConfig(flags: ConfigFlags = {}): Config {
  const mainFile = flags.file ?? defaultConfigFile;
  const sources = [...readMain(mainFile, flags.file !== undefined), ...readDropIns(dirname(mainFile))];
  const overrides = overridesOf(flags);
  const complaints = [
    ...sources.flatMap(complaintsAbout),
    ...wrongIn(overrides).map(({ sentence }) => `flags: ${sentence}`),
  ];
  if (complaints.length > 0) throw new BerthError('invalid_argument', complaints.join('\n'));
  return toConfig(schema.parse([...sources.map(source => source.values), overrides].reduce(merge, {})));
}

function readMain(file: string, required: boolean): Source[] {
  try {
    return [readSource(file)];
  } catch (error) {
    if (isAbsent(error) && !required) return [];
    throw unreadable(file, error);
  }
}

function readDropIns(folder: string): Source[] {
  const dropIns = join(folder, 'config.d');
  return namesIn(dropIns)
    .filter(name => name.endsWith('.toml') && !name.startsWith('.'))
    .sort()
    .map(name => join(dropIns, name))
    .map(file => {
      try {
        return readSource(file);
      } catch (error) {
        throw unreadable(file, error);
      }
    });
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (isAbsent(error)) return [];
    throw unreadable(folder, error);
  }
}

function readSource(file: string): Source {
  const text = readFileSync(file, 'utf8');
  return { file, text, values: parseToml(text) };
}

function unreadable(file: string, error: unknown): BerthError {
  const line = lineOfSyntaxError(error);
  if (line !== undefined) {
    // The message's first line says what; the others are a drawing of the place.
    const what = messageOf(error).split('\n')[0]?.replace('Invalid TOML document: ', '');
    return new BerthError('invalid_argument', `config ${file}:${line}: not valid TOML: ${what}`, { cause: error });
  }
  return new BerthError('invalid_argument', `config ${file}: cannot be read: ${messageOf(error)}`, {
    cause: error,
    hint: isAbsent(error) ? 'create it, or leave the flag out to run with defaults' : 'check its permissions',
  });
}

const knownKeys = leavesOf(schema.parse({}), []).map(dotted);

interface Complaint {
  path: KeyPath;
  sentence: string;
}

function complaintsAbout({ file, text, values }: Source): string[] {
  return (
    wrongIn(values)
      // A key that is left out has no line; its table has.
      .map(({ path, sentence }) => ({
        line: lineOfKey(text, valueAt(values, path) === undefined ? path.slice(0, -1) : path),
        sentence,
      }))
      .sort((a, b) => a.line - b.line)
      .map(({ line, sentence }) => `config ${file}:${line}: ${sentence}`)
  );
}

function wrongIn(values: Table): Complaint[] {
  const checked = schema.safeParse(values);
  if (checked.success) return [];
  return checked.error.issues.flatMap((issue): Complaint[] => {
    const { path, message: expected } = issue;
    const value = valueAt(values, path);
    if (issue.code === 'unrecognized_keys') return issue.keys.flatMap(key => unknown(value, path, key));
    return [{ path, sentence: `"${dotted(path)}" must be ${expected}, not ${shown(value)}` }];
  });
}

/** Of an unknown table the keys in it are named: they tell more than its name. */
function unknown(table: unknown, path: KeyPath, key: string): Complaint[] {
  const here = [...path, key];
  const value = valueAt(table, [key]);
  return (isTable(value) ? leavesOf(value, here) : [here]).map(leaf => {
    const meant = nearest(dotted(leaf), knownKeys);
    const hint = meant === undefined ? 'the README lists all keys' : `did you mean "${meant}"?`;
    return { path: leaf, sentence: `unknown key "${dotted(leaf)}"; ${hint}` };
  });
}

function leavesOf(values: Table, path: KeyPath): KeyPath[] {
  const entries = Object.entries(values);
  if (entries.length === 0) return [path];
  return entries.flatMap(([key, value]) => (isTable(value) ? leavesOf(value, [...path, key]) : [[...path, key]]));
}

function valueAt(values: unknown, path: KeyPath): unknown {
  return path.reduce((inner, key) => (inner as Record<PropertyKey, unknown>)[key], values);
}

function overridesOf({ root, state }: ConfigFlags): Table {
  return { ...(root !== undefined && { root }), ...(state !== undefined && { state }) };
}

/** `later` over `earlier`. Both were checked: they hold known keys only. */
function merge(earlier: Table, later: Table): Table {
  const merged = { ...earlier };
  for (const [key, value] of Object.entries(later)) {
    const before = merged[key];
    merged[key] = isTable(before) && isTable(value) ? merge(before, value) : value;
  }
  return merged;
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** A key as TOML would have it: `network.cni_bin_dirs[1]`, with quotes around what is not a bare key. */
function dotted(path: KeyPath): string {
  return path.reduce<string>((name, key) => {
    if (typeof key === 'number') return `${name}[${key}]`;
    const part = /^[A-Za-z0-9_-]+$/.test(String(key)) ? String(key) : JSON.stringify(key);
    return name === '' ? part : `${name}.${part}`;
  }, '');
}

function shown(value: unknown): string {
  if (value === undefined) return 'left out';
  if (isTable(value)) return 'a table';
  if (value instanceof Date) return 'a date';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
