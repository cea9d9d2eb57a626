import { readdir, readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { isAbsent, messageOf } from '../base/errors';
import type { ContainerConfig } from '../cri';
import { cdiChanges, NO_CDI, type CdiChanges } from '../oci/cdi/edits';
import { cdiEdits, type CdiDirectory } from '../oci/cdi/find';
import { requestedCdi } from '../oci/cdi/names';
import { cdiSpec, type CdiSpec } from '../oci/cdi/spec';

/**
 * What the CDI devices of a request change in its container. The specs are read for each request that names any: they are
 * few and small, and a driver's installation changes them at any time.
 */
export async function requestedCdiChanges(config: ContainerConfig, dirs: readonly string[]): Promise<CdiChanges> {
  const names = requestedCdi(config);
  if (names.length === 0) return NO_CDI;
  const directories = await Promise.all(dirs.map(readDirectory));
  return cdiChanges(cdiEdits(directories, names));
}

/** The `.json`, `.yaml` and `.yml` files directly in it; a directory that is not there has none. */
async function readDirectory(dir: string): Promise<CdiDirectory> {
  let names: string[];
  try {
    names = await readdir(dir);
  } catch (error) {
    return { specs: [], problems: isAbsent(error) ? [] : [`CDI directory ${dir}: ${messageOf(error)}`] };
  }
  const files = names.filter(name => ['.json', '.yaml', '.yml'].includes(extname(name))).sort();
  const read = await Promise.all(files.map(name => readSpec(join(dir, name))));
  return {
    specs: read.filter(result => typeof result !== 'string'),
    problems: read.filter(result => typeof result === 'string'),
  };
}

/** A spec, or what is wrong with it: a bad one is no reason to refuse the devices of others. */
async function readSpec(file: string): Promise<CdiSpec | string> {
  try {
    const text = await readFile(file, 'utf8');
    return cdiSpec(file.endsWith('.json') ? (JSON.parse(text) as unknown) : await parseYaml(text), file);
  } catch (error) {
    const message = messageOf(error);
    return message.includes(file) ? message : `CDI spec ${file}: ${message}`;
  }
}

/** Loaded at the first use: most nodes have no devices. */
async function parseYaml(text: string): Promise<unknown> {
  const yaml = await import('yaml');
  return yaml.parse(text) as unknown;
}
