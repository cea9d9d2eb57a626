import { nearest } from '../../config/nearest';
import { DockerfileError, type Place } from './error';
import { rawWords, type Instruction } from './lines';

/** A command as a JSON list, or as a text for a shell. */
export type Form = { readonly exec: readonly string[] } | { readonly shell: string };

/** `["a", "b"]`; undefined when it is not a list of texts, and so means something else. */
export function jsonList(text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined;
  try {
    const json: unknown = JSON.parse(text);
    return Array.isArray(json) && json.every(element => typeof element === 'string') ? json : undefined;
  } catch {
    return undefined;
  }
}

export function commandForm(text: string): Form {
  const exec = jsonList(text);
  return exec ? { exec } : { shell: text };
}

/** A JSON list, or words between blanks, without a look at quotes. */
export function listOrWords(text: string): string[] {
  return jsonList(text) ?? text.split(/\s+/).filter(word => word !== '');
}

/** `KEY=VALUE …`, or `KEY VALUE` with one key and everything behind it; as they are written, to be expanded. */
export function namesAndValues({ rest, word, ...place }: Instruction, escape: string): [string, string][] {
  const words = rawWords(rest, escape);
  const [first = ''] = words;
  if (first === '') throw new DockerfileError(place, `${word} has no argument`);
  if (!first.includes('=')) {
    const value = rest.slice(rest.indexOf(first) + first.length).trimStart();
    if (value === '')
      throw new DockerfileError(place, `${word} ${first} has no value`, { hint: `write ${first}=value` });
    return [[first, value]];
  }
  return words.map(each => {
    const equals = each.indexOf('=');
    if (equals > 0) return [each.slice(0, equals), each.slice(equals + 1)];
    throw new DockerfileError(place, `${word}: ${each} is not of the form name=value`);
  });
}

/** The flags of an instruction by name; those in `many` may come several times. */
export class Flags {
  private readonly values = new Map<string, string[]>();
  private readonly place: Place;
  private readonly word: string;

  constructor(instruction: Instruction, known: readonly string[], many: readonly string[] = []) {
    this.place = instruction;
    this.word = instruction.word;
    for (const flag of instruction.flags) {
      const [, name = '', value] = /^--([^=]+)(?:=([^]*))?$/.exec(flag) ?? [];
      if (!known.includes(name)) {
        const close = nearest(name, known);
        const hint = close === undefined ? {} : { hint: `perhaps --${close} is meant` };
        throw new DockerfileError(this.place, `${this.word} has no flag --${name}`, hint);
      }
      const before = this.values.get(name) ?? [];
      if (before.length > 0 && !many.includes(name))
        throw new DockerfileError(this.place, `${this.word}: --${name} comes twice`);
      this.values.set(name, [...before, value ?? '']);
    }
  }

  text(name: string): string | undefined {
    const [value] = this.values.get(name) ?? [];
    if (value === '') throw new DockerfileError(this.place, `${this.word}: --${name} has no value`);
    return value;
  }

  list(name: string): string[] {
    return this.values.get(name) ?? [];
  }

  /** `--link`, `--link=true`, `--link=false`. */
  isOn(name: string): boolean {
    const [value] = this.values.get(name) ?? ['false'];
    if (value === '' || value === 'true' || value === '1') return true;
    if (value === 'false' || value === '0') return false;
    throw new DockerfileError(this.place, `${this.word}: --${name}=${value ?? ''} is neither true nor false`);
  }
}

const unitsNs: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/** `1m30s` in nanoseconds; undefined when it is no duration. */
export function durationNs(text: string): number | undefined {
  if (!/^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, number, unit = ''] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g))
    total += Number(number) * (unitsNs[unit] ?? 0);
  return Math.round(total);
}
