import { constants, type Stats } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../base/context';
import { BerthError, isAbsent } from '../base/errors';
import type { MountSpec } from '../oci/spec';
import { isOpaque } from '../process/files';
import type { Container, Containers } from './containers';

export interface FileChange {
  kind: 'changed' | 'added' | 'deleted';
  /** In the container. */
  path: string;
}

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** Each level holds a descriptor. Layers of images are no deeper, either. */
const DEPTH_MAX = 512;

/** Of a path that is too long to read. */
const SHOWN = 200;

/**
 * What a container has changed in its image's files, by path: its writable layer, compared with the layers below. What
 * was made there for mounts to lie on is left out.
 */
export async function containerDiff(
  containers: Pick<Containers, 'images' | 'paths'>,
  ctx: Context,
  { record }: Pick<Container, 'record'>,
): Promise<FileChange[]> {
  const image = containers.images.find(record.imageId);
  if (!image) {
    throw new BerthError(
      'failed_precondition',
      'the image of the container was removed: there is nothing to compare with',
    );
  }
  ctx.stage("look through the container's files");
  const { mounts } = JSON.parse(record.spec ?? '{"mounts":[]}') as { mounts: MountSpec[] };
  const walk: Walk = {
    ctx,
    places: new Set(mounts.map(({ destination }) => destination)),
    changes: [],
  };
  const upper = { dir: containers.paths(record.id).upper, path: '', depth: 0, isAnew: false };
  await lookInto(walk, upper, containers.images.lowerDirs(image));
  return walk.changes.sort((a, b) => (a.path < b.path ? -1 : 1));
}

interface Walk {
  ctx: Context;
  /** Where something is mounted. */
  places: ReadonlySet<string>;
  /** What was found so far. */
  changes: FileChange[];
}

/** A directory of the writable layer. */
interface Directory {
  /** On the node. */
  dir: string;
  /** In the container; empty for its root. */
  path: string;
  depth: number;
  /** It, or one that it is in, was removed and made again: of what the image has there nothing is shown. */
  isAnew: boolean;
}

/**
 * The container may change what is looked at: directories are reached by descriptors, and no link is followed. `lowers`
 * are this directory in the image's layers, top first: those layers that have it, down to one that hides what is below.
 */
async function lookInto(walk: Walk, { dir, path, depth, isAnew }: Directory, lowers: readonly string[]): Promise<void> {
  walk.ctx.throwIfEnded();
  if (depth > DEPTH_MAX) {
    throw new BerthError(
      'failed_precondition',
      `the container has directories more than ${DEPTH_MAX} levels deep, below ${path.slice(0, SHOWN)}…`,
      { hint: 'remove them, or look at them inside the container' },
    );
  }
  const handle = await open(dir, DIRECTORY).catch(orAbsent);
  if (!handle) return;
  try {
    const self = `/proc/self/fd/${handle.fd}`;
    const entries = await readdir(self, { withFileTypes: true });
    if (isAnew) {
      const own = new Set(entries.map(({ name }) => name));
      const gone = (await namesIn(lowers)).filter(name => !own.has(name));
      walk.changes.push(...gone.map(name => ({ kind: 'deleted' as const, path: `${path}/${name}` })));
    }
    for (const entry of entries) {
      const at = { dir: join(self, entry.name), path: `${path}/${entry.name}`, depth: depth + 1, isAnew };
      const below = await inLayers(lowers, entry.name);
      if (entry.isDirectory()) await lookAtDirectory(walk, at, below);
      else await lookAtFile(walk, at, below.exists);
    }
  } finally {
    await handle.close();
  }
}

async function lookAtDirectory(walk: Walk, at: Directory, { exists, directories }: Below): Promise<void> {
  const before = walk.changes.length;
  const isAnew = at.isAnew || (directories.length > 0 && (await isOpaque(at.dir)));
  await lookInto(walk, { ...at, isAnew }, directories);
  if (walk.changes.length === before && isForMounts(walk, at.path)) return;
  walk.changes.push({ kind: exists ? 'changed' : 'added', path: at.path });
}

async function lookAtFile({ places, changes }: Walk, { dir, path }: Directory, exists: boolean): Promise<void> {
  const found = await lstat(dir).catch(orAbsent);
  if (!found) return;
  if (isWhiteout(found)) changes.push({ kind: 'deleted', path });
  else if (!places.has(path) || found.size > 0) changes.push({ kind: exists ? 'changed' : 'added', path });
}

/** A directory that mounts lie on or in; there is nothing else in it. */
function isForMounts({ places }: Walk, path: string): boolean {
  return [...places].some(place => place === path || place.startsWith(`${path}/`));
}

/** What the image has of a name. */
interface Below {
  exists: boolean;
  /** If that is a directory: itself, and what it shows of those in the layers below. */
  directories: string[];
}

async function inLayers(lowers: readonly string[], name: string): Promise<Below> {
  const directories: string[] = [];
  for (const lower of lowers) {
    const at = join(lower, name);
    const found = await lstat(at).catch(orAbsent);
    if (!found) continue;
    if (found.isDirectory()) {
      directories.push(at);
      if (await isOpaque(at)) break;
    }
    // It hides what is below it.
    else return { exists: directories.length > 0 || !isWhiteout(found), directories };
  }
  return { exists: directories.length > 0, directories };
}

/** What these directories show, of which the first hides what the others have. */
async function namesIn(lowers: readonly string[]): Promise<string[]> {
  const shown = new Map<string, boolean>();
  for (const lower of lowers) {
    for (const entry of await readdir(lower, { withFileTypes: true })) {
      if (shown.has(entry.name)) continue;
      const gone = entry.isCharacterDevice() && isWhiteout(await lstat(join(lower, entry.name)));
      shown.set(entry.name, !gone);
    }
  }
  return [...shown].flatMap(([name, isShown]) => (isShown ? [name] : []));
}

/** Overlayfs marks what is gone by a character device 0:0. */
function isWhiteout(found: Stats): boolean {
  return found.isCharacterDevice() && found.rdev === 0;
}

function orAbsent(error: unknown): undefined {
  if (isAbsent(error)) return undefined;
  throw error;
}
