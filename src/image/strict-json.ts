/** Deeper than any document of an image is: four levels. */
const depthMax = 32;

/** More than any such document has. Each takes microseconds and, where it is wrong, a kilobyte to look at. */
const valuesMax = 65_536;

/**
 * Reads the JSON of strangers. `refusal` makes the error of a clause that says what
 * is wrong: no UTF-8, no JSON, too deep, too many values, or a key that stands twice,
 * of which one reader takes the first and another the last.
 */
export function parseStrictJson(bytes: Uint8Array, refusal: (why: string) => Error): unknown {
  if (isCrowded(bytes)) throw refusal(`it holds more than ${valuesMax} values`);
  let text: string;
  let json: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    json = JSON.parse(text);
  } catch {
    throw refusal('it is not JSON');
  }
  assertPlain(text, refusal);
  return json;
}

/** Counts what opens and what separates, but in texts; what is not JSON is for the parser to find. */
function isCrowded(bytes: Uint8Array): boolean {
  let [count, isText] = [0, false];
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === 0x22) isText = !isText;
    else if (byte === 0x5c) at++;
    else if (!isText && (byte === 0x2c || byte === 0x5b || byte === 0x7b) && ++count > valuesMax) return true;
  }
  return false;
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
