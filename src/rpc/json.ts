/** JSON for people: indented, with 64-bit numbers as text, since parsers of JSON lose their digits. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value, bigintText, 2);
}

/** For JSON.stringify. */
function bigintText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}
