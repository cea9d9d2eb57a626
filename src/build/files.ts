import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { filterInBatches, inBatches } from '../base/batches';
import type { Context } from '../base/context';
import { IgnorePatterns, isPattern, pathPattern } from '../base/patterns';
import type { ScannedEntry, Source, Workshop } from '../image/workshop';
import { DockerfileError, type Place } from './dockerfile/error';

/** A file or directory that is copied, with all that is below it. */
export interface Found {
  /** Where it is in its source; links in it are followed there. */
  readonly path: string;
  /** With --parents: the way that is kept begins behind this. */
  readonly pivot: string;
  /** The first is itself; names are below it, and those that are left out are left out. */
  readonly entries: readonly ScannedEntry[];
}

/** Finds what COPY and ADD name: paths, or patterns that match paths. Throws for a path where nothing is. */
export async function findFiles(
  workshop: Workshop,
  ctx: Context,
  source: Source,
  asked: readonly string[],
  exclude: readonly string[],
  place: Place,
): Promise<Found[]> {
  const ignored = excluded(exclude, place);
  const wanted: { path: string; pivot: string }[] = [];
  for (const each of asked) {
    const path = inside(each);
    const cut = each.indexOf('/./');
    const pivot = cut < 0 ? '' : inside(each.slice(0, cut));
    const paths = isPattern(path) ? await matching(workshop, ctx, source, path, place) : [path];
    wanted.push(...paths.map(one => ({ path: one, pivot })));
  }
  if (wanted.length === 0) return [];
  const scanned = await workshop.scan(ctx, source, { paths: wanted.map(({ path }) => path), hash: true });
  const found: Found[] = [];
  for (const { path, pivot } of wanted) {
    const entries = scanned.get(path);
    if (!entries) throw missing(path, source, place);
    const isKept = ({ name }: ScannedEntry) => name === '.' || !ignored.matches(name);
    found.push({ path, pivot, entries: ignored.isEmpty ? entries : await filterInBatches(entries, isKept) });
  }
  return found;
}

/** What decides about the copy: all but times; owners and the ways to files, where these are kept. */
export async function digestFiles(found: readonly Found[], withOwners: boolean, withWays = false): Promise<string> {
  const digest = createHash('sha256');
  const lineOf = ({ type, name, mode, uid, gid, xattrs, sha256 = '', target = '', device }: ScannedEntry) =>
    JSON.stringify([type, name, mode, ...(withOwners ? [uid, gid] : []), xattrs, sha256, target, device]);
  for (const { path, pivot, entries } of found) {
    digest.update(`${JSON.stringify(withWays ? path.slice(pivot.length) : posix.basename(path))}\n`);
    for await (const batch of inBatches(entries)) digest.update(`${batch.map(lineOf).join('\n')}\n`);
  }
  return digest.digest('hex');
}

/** Without slashes at either end; `..` does not lead out. */
export function inside(path: string): string {
  return posix.normalize(`/${path}`).replace(/^\/+|\/+$/g, '');
}

async function matching(
  workshop: Workshop,
  ctx: Context,
  source: Source,
  pattern: string,
  place: Place,
): Promise<string[]> {
  const glob = pathPattern(pattern);
  if (!glob) throw new DockerfileError(place, `${JSON.stringify(pattern)} is a malformed pattern`);
  const parts = pattern.split('/');
  const fixed = parts.slice(0, parts.findIndex(isPattern)).join('/');
  const entries = (await workshop.scan(ctx, source, { paths: [fixed] })).get(fixed) ?? [];
  const names = entries.map(({ name }) => (name === '.' ? fixed : posix.join(fixed, name)));
  return filterInBatches(names, name => name !== '' && glob.matches(name));
}

function excluded(patterns: readonly string[], place: Place): IgnorePatterns {
  try {
    return new IgnorePatterns(patterns);
  } catch (error) {
    if (error instanceof RangeError)
      throw new DockerfileError(place, `--exclude=${error.message}: it is a malformed pattern`);
    throw error;
  }
}

function missing(path: string, source: Source, place: Place): DockerfileError {
  const isContext = 'sent' in source;
  const where = isContext ? 'the context' : 'what is copied from';
  return new DockerfileError(place, `/${path} is not in ${where}`, {
    ...(isContext ? { hint: 'it is outside, or .dockerignore leaves it out' } : {}),
  });
}
