/** Deeper than any document of an image is: four levels. */
const depthMax = 32;

/**
 * Reads a JSON object of strangers. `refusal` makes the error of a clause that says
 * what is wrong: no UTF-8, no JSON, no object, too deep, or a key that stands twice,
 * of which one reader takes the first and another the last.
 */
export function parseStrictJson(bytes: Uint8Array, refusal: (why: string) => Error): Record<string, unknown> {
  let text: string;
  let json: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    json = JSON.parse(text);
  } catch {
    throw refusal('it is not JSON');
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw refusal('it is not a JSON object');
  assertPlain(text, refusal);
  return json as Record<string, unknown>;
}

/** Walks over a text that is JSON, so that little needs to be told apart. */
function assertPlain(text: string, refusal: (why: string) => Error): void {
  const open: (Set<string> | undefined)[] = [];
  let keyComes = false;
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case '"': {
        const end = endOfString(text, at);
        if (keyComes) addKey(open.at(-1), text.slice(at, end + 1), refusal);
        keyComes = false;
        at = end;
        break;
      }
      case '{':
      case '[':
        keyComes = text[at] === '{';
        open.push(keyComes ? new Set() : undefined);
        if (open.length > depthMax) throw refusal(`it is nested deeper than ${depthMax} levels`);
        break;
      case '}':
      case ']':
        keyComes = false;
        open.pop();
        break;
      case ',':
        keyComes = open.at(-1) !== undefined;
        break;
    }
  }
}

function endOfString(text: string, start: number): number {
  let end = start + 1;
  while (text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
  return end;
}

function addKey(keys: Set<string> | undefined, quoted: string, refusal: (why: string) => Error): void {
  const key = quoted.includes('\\') ? (JSON.parse(quoted) as string) : quoted.slice(1, -1);
  if (keys?.has(key)) throw refusal(`the key ${JSON.stringify(key.slice(0, 100))} stands twice in one object`);
  keys?.add(key);
}
