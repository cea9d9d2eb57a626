import { BerthError } from '../base/errors';

/** The part of an image config that says how its containers run, as it is written down. */
export interface ConfigObject {
  Env?: string[];
  Cmd?: string[];
  Entrypoint?: string[];
  User?: string;
  WorkingDir?: string;
  StopSignal?: string;
  ExposedPorts?: Record<string, object>;
  Volumes?: Record<string, object>;
  Labels?: Record<string, string>;
}

/** What lines of a Dockerfile make of an empty config; later ones go over earlier ones. */
export function configOf(changes: readonly string[]): ConfigObject {
  const config: ConfigObject = {};
  for (const change of changes) {
    const [, word = '', rest = ''] = /^\s*(\S+)\s*([^]*?)\s*$/.exec(change) ?? [];
    const apply = instructions[word.toUpperCase()];
    if (!apply) throw refused(change, `${JSON.stringify(word)} is not among ${Object.keys(instructions).join(', ')}`);
    if (rest === '') throw refused(change, 'nothing follows the instruction');
    apply(config, rest, change);
  }
  return config;
}

type Instruction = (config: ConfigObject, rest: string, change: string) => void;

const instructions: Readonly<Record<string, Instruction>> = {
  CMD: (config, rest, change) => void (config.Cmd = command(rest, change)),
  ENTRYPOINT: (config, rest, change) => void (config.Entrypoint = command(rest, change)),
  ENV: (config, rest, change) => {
    for (const [key, value] of pairs(rest, change))
      config.Env = [...(config.Env ?? []).filter(other => !other.startsWith(`${key}=`)), `${key}=${value}`];
  },
  EXPOSE: (config, rest, change) => {
    for (const port of words(rest, change)) {
      const [, number = '', protocol = 'tcp'] = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/i.exec(port) ?? [];
      if (number === '' || Number(number) > 65535) throw refused(change, `${JSON.stringify(port)} is not a port`);
      config.ExposedPorts = { ...config.ExposedPorts, [`${Number(number)}/${protocol.toLowerCase()}`]: {} };
    }
  },
  LABEL: (config, rest, change) => {
    config.Labels = { ...config.Labels, ...Object.fromEntries(pairs(rest, change)) };
  },
  STOPSIGNAL: (config, rest) => void (config.StopSignal = rest),
  USER: (config, rest) => void (config.User = rest),
  VOLUME: (config, rest, change) => {
    for (const path of list(rest, change) ?? words(rest, change)) config.Volumes = { ...config.Volumes, [path]: {} };
  },
  WORKDIR: (config, rest) => {
    // A relative one goes on from the one before, as in a Dockerfile.
    const base = rest.startsWith('/') ? '' : `${(config.WorkingDir ?? '').replace(/\/$/, '')}/`;
    config.WorkingDir = base + rest;
  },
};

/** The exec form is a JSON list; anything else is for a shell. */
function command(rest: string, change: string): string[] {
  return list(rest, change) ?? ['/bin/sh', '-c', rest];
}

function list(rest: string, change: string): string[] | undefined {
  if (!rest.startsWith('[')) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(rest);
  } catch {
    throw refused(change, 'its list is not JSON');
  }
  if (Array.isArray(json) && json.every(element => typeof element === 'string')) return json;
  throw refused(change, 'its list has something else than texts');
}

/** `KEY=VALUE …`, or `KEY VALUE` with one key and everything behind it. */
function pairs(rest: string, change: string): [string, string][] {
  const [first = '', ...more] = words(rest, change);
  if (!first.includes('=') && more.length > 0) return [[first, rest.slice(rest.indexOf(first) + first.length).trim()]];
  return [first, ...more].map(word => {
    const equals = word.indexOf('=');
    if (equals < 1) throw refused(change, `${JSON.stringify(word)} is not KEY=VALUE`);
    return [word.slice(0, equals), word.slice(equals + 1)];
  });
}

/** As a shell splits them: quotes keep blanks together, a backslash takes the next character as it is. */
function words(text: string, change: string): string[] {
  const found: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let i = 0; i < text.length; i++) {
    const at = text.charAt(i);
    if (at === '\\' && quote !== "'" && i + 1 < text.length) word = (word ?? '') + text.charAt(++i);
    else if (at === quote) quote = '';
    else if (quote === '' && (at === '"' || at === "'")) [quote, word] = [at, word ?? ''];
    else if (quote !== '' || !/\s/.test(at)) word = (word ?? '') + at;
    else if (word !== undefined) {
      found.push(word);
      word = undefined;
    }
  }
  if (quote !== '') throw refused(change, `a ${quote} has no end`);
  return word === undefined ? found : [...found, word];
}

function refused(change: string, why: string): BerthError {
  return new BerthError('invalid_argument', `change ${JSON.stringify(change.slice(0, 200))}: ${why}`, {
    hint: `changes look like: CMD ["/app", "-v"], ENV KEY=VALUE, EXPOSE 80/tcp`,
  });
}
