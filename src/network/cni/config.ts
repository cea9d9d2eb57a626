import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BerthError, isAbsent, messageOf } from '../../base/errors';

/** What berth speaks of https://github.com/containernetworking/cni, newest last. */
const VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;

export type CniVersion = (typeof VERSIONS)[number];

/** One plugin's configuration: `type` names its program, `capabilities` what it wants to be told, the rest is its own. */
export interface PluginConfig {
  readonly type: string;
  readonly capabilities: Readonly<Record<string, boolean>>;
  readonly raw: Readonly<Record<string, unknown>>;
}

/** A network: plugins that are run one after the other. Plain data, which a record can hold. */
export interface NetworkList {
  readonly name: string;
  readonly version: CniVersion;
  readonly plugins: readonly PluginConfig[];
  readonly disableCheck: boolean;
  readonly disableGC: boolean;
  /** Where it was read. */
  readonly file: string;
}

const BYTES_MAX = 1024 * 1024;

const pluginShape = z.looseObject({
  type: z.string().regex(/^[^/\0]+$/),
  capabilities: z.record(z.string(), z.boolean()).optional(),
});
const listShape = z.looseObject({
  cniVersion: z.string().default('0.2.0'),
  cniVersions: z.array(z.string()).default([]),
  name: z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/),
  plugins: z.array(pluginShape).optional(),
  type: z.string().optional(),
  disableCheck: flag(),
  disableGC: flag(),
  loadOnlyInlinedPlugins: flag(),
});

/** Some write booleans as strings, and the specification lets them. */
function flag() {
  return z.union([z.boolean(), z.enum(['true', 'false']).transform(word => word === 'true')]).default(false);
}

/** What a directory offers: the first network that can be read, and what is wrong with those before it. */
export interface Found {
  readonly network: NetworkList | undefined;
  /** A sentence for each file that cannot be used. */
  readonly complaints: readonly string[];
}

/** The first of the directory's `.conflist`, `.conf` and `.json` files, by name, that holds a network. */
export async function findNetwork(dir: string): Promise<Found> {
  const complaints: string[] = [];
  for (const name of await configFiles(dir, /\.(conflist|conf|json)$/)) {
    const file = join(dir, name);
    try {
      return { network: await readNetwork(dir, file), complaints };
    } catch (error) {
      complaints.push(messageOf(error));
    }
  }
  return { network: undefined, complaints };
}

async function configFiles(dir: string, pattern: RegExp): Promise<string[]> {
  try {
    return (await readdir(dir)).filter(name => pattern.test(name)).sort();
  } catch (error) {
    if (isAbsent(error)) return [];
    throw new BerthError('failed_precondition', `read ${dir}: ${messageOf(error)}`, { cause: error });
  }
}

async function readNetwork(dir: string, file: string): Promise<NetworkList> {
  const list = parse(await readJson(file), listShape, file);
  const plugins = list.plugins ?? (list.type === undefined ? [] : [parse(list, pluginShape, file)]);
  const more = list.plugins && !list.loadOnlyInlinedPlugins ? await besides(join(dir, list.name)) : [];
  const all = [...plugins, ...more];
  if (all.length === 0) throw wrong(file, 'it names no plugin');
  return {
    name: list.name,
    version: newestOf([list.cniVersion, ...list.cniVersions], file),
    plugins: all.map(({ type, capabilities, ...rest }) => ({
      type,
      capabilities: capabilities ?? {},
      raw: list.plugins ? rest : withoutListKeys(rest),
    })),
    disableCheck: list.disableCheck,
    disableGC: list.disableGC,
    file,
  };
}

/** Plugins that lie one a file in the folder of the network's name, as version 1.1 allows. */
async function besides(dir: string): Promise<z.output<typeof pluginShape>[]> {
  const names = await configFiles(dir, /\.conf$/);
  return Promise.all(names.map(async name => parse(await readJson(join(dir, name)), pluginShape, join(dir, name))));
}

async function readJson(file: string): Promise<unknown> {
  try {
    const text = await readFile(file, 'utf8');
    if (text.length > BYTES_MAX) throw new Error(`it is longer than ${BYTES_MAX} bytes`);
    return JSON.parse(text);
  } catch (error) {
    throw wrong(file, messageOf(error), error);
  }
}

function parse<Shape extends z.ZodType>(document: unknown, shape: Shape, file: string): z.output<Shape> {
  const parsed = shape.safeParse(document);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw wrong(file, `${issue?.path.join('.') || 'the whole'}: ${issue?.message ?? 'malformed'}`);
}

function withoutListKeys(raw: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const own = ['cniVersion', 'cniVersions', 'name', 'disableCheck', 'disableGC', 'loadOnlyInlinedPlugins', 'plugins'];
  return Object.fromEntries(Object.entries(raw).filter(([key]) => !own.includes(key)));
}

function newestOf(offered: readonly string[], file: string): CniVersion {
  const newest = VERSIONS.filter(version => offered.includes(version)).at(-1);
  if (newest) return newest;
  throw wrong(file, `CNI version ${offered.join(', ')} is not one of ${VERSIONS.join(', ')}`);
}

function wrong(file: string, why: string, cause?: unknown): BerthError {
  return new BerthError('failed_precondition', `network configuration ${file}: ${why}`, {
    cause,
    hint: 'mend the file',
  });
}

/** True when the network's version has what came with `version`. */
export function has({ version }: NetworkList, least: CniVersion): boolean {
  return VERSIONS.indexOf(version) >= VERSIONS.indexOf(least);
}
