import { parseToml } from '../base/toml';

/**
 * The line, counted from 1, of the statement that sets the key at `path` in a valid TOML text.
 *
 * The parser keeps no positions, but it can be asked: the statement that sets a key is the first one after which the
 * text up to there holds the key. The text breaks off inside a statement that spans lines, so a parsable beginning ends
 * where a statement ends.
 */
export function lineOfKey(text: string, path: readonly PropertyKey[]): number {
  const lines = text.split('\n');
  let statement = 1;
  for (let end = 1; end <= lines.length; end++) {
    const values = parsed(`${lines.slice(0, end).join('\n')}\n`);
    if (values === undefined) continue;
    if (has(values, path)) return statement;
    statement = end + 1;
  }
  return statement;
}

function parsed(text: string): unknown {
  try {
    return parseToml(text);
  } catch {
    return undefined;
  }
}

function has(values: unknown, path: readonly PropertyKey[]): boolean {
  const [key, ...rest] = path;
  if (key === undefined) return true;
  if (typeof values !== 'object' || values === null || !Object.hasOwn(values, key)) return false;
  return has((values as Record<PropertyKey, unknown>)[key], rest);
}
