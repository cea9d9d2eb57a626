/** One thing of two images' configs that is not the same; `before` or `after` is missing where there is none. */
export interface ConfigChange {
  /** `env PATH`, `label version`, `cmd`. */
  readonly what: string;
  readonly before?: string;
  readonly after?: string;
}

type Config = Readonly<Record<string, unknown>>;

/** What differs in two configs as the daemon tells them: variables and labels one by one, all else as a whole. */
export function configChanges(before: Config, after: Config): ConfigChange[] {
  const [old, now] = [facts(before), facts(after)];
  return [...new Set([...old.keys(), ...now.keys()])].sort().flatMap(what => {
    const [a, b] = [old.get(what), now.get(what)];
    if (a === b) return [];
    return [{ what, ...(a === undefined ? {} : { before: a }), ...(b === undefined ? {} : { after: b }) }];
  });
}

function facts(config: Config): Map<string, string> {
  return new Map(Object.entries(config).flatMap(([key, value]) => factsOf(key, value)));
}

function factsOf(key: string, value: unknown): (readonly [string, string])[] {
  if (key === 'env' && Array.isArray(value)) return value.map(entry => variable(String(entry)));
  if (key === 'labels' && typeof value === 'object' && value !== null)
    return Object.entries(value).map(([name, text]) => [`label ${name}`, String(text)] as const);
  if (UNORDERED.has(key) && Array.isArray(value)) return present(key, value.map(String).sort());
  return present(key, value);
}

function variable(entry: string): readonly [string, string] {
  const at = entry.indexOf('=');
  return at < 0 ? [`env ${entry}`, ''] : [`env ${entry.slice(0, at)}`, entry.slice(at + 1)];
}

/** Lists in which the order means nothing. */
const UNORDERED = new Set(['volumes', 'exposedPorts']);

/** What is empty is not there. */
function present(key: string, value: unknown): (readonly [string, string])[] {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text === undefined || EMPTY.has(text) ? [] : [[key, text]];
}

const EMPTY = new Set(['', '[]', '{}', 'null']);
