/**
 * A value of a D-Bus type, by its signature: y n q i u d a number, x t a bigint, b a boolean, s o g a string, `ay` bytes,
 * other arrays, structs and dict entries a list, v a `Variant`. Descriptors (h) are not passed.
 */
export type Value = number | bigint | boolean | string | Uint8Array | Variant | readonly Value[];

/** A value that says its own type. */
export interface Variant {
  signature: string;
  value: Value;
}

/** One complete type: its code, and for a, ( and { what is inside. */
export interface Type {
  code: string;
  inner: readonly Type[];
}

const BASIC = new Set('ybnqiuxtdsog');
/** The specification allows so many arrays and so many structs around each other. */
const MAX_DEPTH = 32;
const MAX_SIGNATURE = 255;

const parsed = new Map<string, readonly Type[]>();
/** Signatures come from a program's text and, in variants, from the other side: only so many are remembered. */
const REMEMBERED = 256;

/** The complete types of a signature. Throws a `RangeError` for what is none. */
export function typesOf(signature: string): readonly Type[] {
  const known = parsed.get(signature);
  if (known) return known;
  if (signature.length > MAX_SIGNATURE) throw bad(signature);
  const types: Type[] = [];
  for (let at = 0; at < signature.length;) {
    const [type, next] = parse(signature, at, 0, 0);
    types.push(type);
    at = next;
  }
  if (parsed.size < REMEMBERED) parsed.set(signature, types);
  return types;
}

/** The one complete type that a variant, or an array's element, must be. */
export function singleType(signature: string): Type {
  const [type, ...more] = typesOf(signature);
  if (!type || more.length > 0) throw bad(signature);
  return type;
}

function parse(signature: string, at: number, arrays: number, structs: number): [Type, number] {
  const code = signature[at] ?? '';
  if (BASIC.has(code) || code === 'v') return [{ code, inner: [] }, at + 1];
  if (arrays > MAX_DEPTH || structs > MAX_DEPTH) throw bad(signature);
  if (code === 'a') {
    const isDict = signature[at + 1] === '{';
    const [element, next] = isDict
      ? parseEntry(signature, at + 1, arrays + 1, structs)
      : parse(signature, at + 1, arrays + 1, structs);
    return [{ code, inner: [element] }, next];
  }
  if (code !== '(') throw bad(signature);
  const [inner, next] = parseUntil(signature, at + 1, ')', arrays, structs + 1);
  if (inner.length === 0) throw bad(signature);
  return [{ code, inner }, next];
}

function parseEntry(signature: string, at: number, arrays: number, structs: number): [Type, number] {
  const [inner, next] = parseUntil(signature, at + 1, '}', arrays, structs + 1);
  if (inner.length !== 2 || !BASIC.has(inner[0]?.code ?? '')) throw bad(signature);
  return [{ code: '{', inner }, next];
}

function parseUntil(signature: string, from: number, end: string, arrays: number, structs: number): [Type[], number] {
  const inner: Type[] = [];
  let at = from;
  while (signature[at] !== end) {
    const [type, next] = parse(signature, at, arrays, structs);
    inner.push(type);
    at = next;
  }
  return [inner, at + 1];
}

function bad(signature: string): RangeError {
  return new RangeError(`${JSON.stringify(signature.slice(0, MAX_SIGNATURE))} is no D-Bus signature`);
}

const ALIGNMENT: Readonly<Record<string, number>> = {
  ...{ y: 1, g: 1, v: 1 },
  ...{ n: 2, q: 2 },
  ...{ b: 4, i: 4, u: 4, s: 4, o: 4, a: 4 },
  ...{ x: 8, t: 8, d: 8, '(': 8, '{': 8 },
};

/** To how many bytes, from the message's beginning, a value is aligned. */
export function alignmentOf({ code }: Type): number {
  return ALIGNMENT[code] ?? 1;
}
