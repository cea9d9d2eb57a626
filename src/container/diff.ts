import { constants, type Dirent } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../base/context';
import { BerthError, isAbsent } from '../base/errors';
import type { MountSpec } from '../oci/spec';
import type { Container, Containers } from './containers';

export interface FileChange {
  kind: 'changed' | 'added' | 'deleted';
  /** In the container. */
  path: string;
}

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/**
 * What a container has changed in its image's files, by path: its writable layer, compared with the layers below. What
 * was made there for mounts to lie on is left out.
 */
export async function containerDiff(
  containers: Containers,
  ctx: Context,
  { record }: Container,
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
  const walk = {
    ctx,
    lowers: containers.images.lowerDirs(image),
    places: new Set(mounts.map(({ destination }) => destination)),
  };
  const changes = await changesIn(walk, containers.paths(record.id).upper, '');
  return changes.sort((a, b) => (a.path < b.path ? -1 : 1));
}

interface Walk {
  ctx: Context;
  /** The image's layers, top first. */
  lowers: readonly string[];
  /** Where something is mounted. */
  places: ReadonlySet<string>;
}

/** The container may change what is looked at: directories are reached by descriptors, and no link is followed. */
async function changesIn(walk: Walk, dir: string, path: string): Promise<FileChange[]> {
  walk.ctx.throwIfEnded();
  const handle = await open(dir, DIRECTORY).catch(orAbsent);
  if (!handle) return [];
  try {
    const self = `/proc/self/fd/${handle.fd}`;
    const changes: FileChange[] = [];
    for (const entry of await readdir(self, { withFileTypes: true }))
      changes.push(...(await changesAt(walk, self, `${path}/${entry.name}`, entry)));
    return changes;
  } finally {
    await handle.close();
  }
}

async function changesAt(walk: Walk, self: string, path: string, entry: Dirent): Promise<FileChange[]> {
  const at = join(self, entry.name);
  if (entry.isDirectory()) {
    const below = await changesIn(walk, at, path);
    const kind = (await isBelow(walk.lowers, path)) ? 'changed' : 'added';
    return below.length === 0 && isForMounts(walk, path) ? [] : [{ kind, path }, ...below];
  }
  const found = await lstat(at).catch(orAbsent);
  if (!found) return [];
  // Overlayfs marks what is gone by a character device 0:0.
  if (found.isCharacterDevice() && found.rdev === 0) return [{ kind: 'deleted', path }];
  if (walk.places.has(path) && found.size === 0) return [];
  return [{ kind: (await isBelow(walk.lowers, path)) ? 'changed' : 'added', path }];
}

/** A directory that mounts lie on or in; there is nothing else in it. */
function isForMounts({ places }: Walk, path: string): boolean {
  return [...places].some(place => place === path || place.startsWith(`${path}/`));
}

/** True when the image has something at this path. */
async function isBelow(lowers: readonly string[], path: string): Promise<boolean> {
  for (const lower of lowers) {
    const here = await inLayer(lower, path);
    if (here !== undefined) return here;
  }
  return false;
}

/** Whether a layer has it (true), hides it (false), or says nothing. Links of layers are not followed. */
async function inLayer(lower: string, path: string): Promise<boolean | undefined> {
  const parts = path.slice(1).split('/');
  let at = lower;
  for (const [i, part] of parts.entries()) {
    at = join(at, part);
    const found = await lstat(at).catch(orAbsent);
    if (!found) return undefined;
    if (found.isCharacterDevice() && found.rdev === 0) return false;
    if (i < parts.length - 1 && !found.isDirectory()) return false;
  }
  return true;
}

function orAbsent(error: unknown): undefined {
  if (isAbsent(error)) return undefined;
  throw error;
}
