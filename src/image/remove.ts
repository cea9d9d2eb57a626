import { BerthError } from '../base/errors';
import type { Content } from './content/content';
import type { Partials } from './content/partials';
import type { Pins } from './pins';
import { rankedPlatforms, type Platform } from './platform';
import type { ImageRecord } from './record';
import { canonicalForm, parseReference } from './reference';
import type { Layers } from './snapshot/layers';

/** Which image of those that have a name, one for each of some platforms. */
export interface Preference {
  readonly platform: Platform;
  /** No other one. */
  readonly only: boolean;
}

/** The image that a name, an id or the beginning of an id means; names first, since `cafe` may be either. */
export function findImage(
  records: readonly ImageRecord[],
  refOrId: string,
  preference: Preference,
): ImageRecord | undefined {
  return byId(records, refOrId) ?? byName(records, refOrId, preference) ?? byPrefix(records, refOrId);
}

function byId(records: readonly ImageRecord[], id: string): ImageRecord | undefined {
  return records.find(record => record.id === id || record.id === `sha256:${id}`);
}

function byName(
  records: readonly ImageRecord[],
  text: string,
  { platform, only }: Preference,
): ImageRecord | undefined {
  const named = imagesNamed(records, text);
  const [best] = rankedPlatforms(named, ({ config }) => config, platform);
  return best ?? (only ? undefined : named[0]);
}

/** All that have this tag or digest: an image for each of some platforms. */
export function imagesNamed(records: readonly ImageRecord[], text: string): ImageRecord[] {
  const name = canonicalOrUndefined(text);
  if (name === undefined) return [];
  const withoutTag = name.includes('@') ? name.replace(/:[^/@]*@/, '@') : name;
  return records.filter(({ tags, digests }) => tags.includes(name) || digests.includes(withoutTag));
}

function canonicalOrUndefined(text: string): string | undefined {
  try {
    return canonicalForm(parseReference(text));
  } catch {
    return undefined; // beginnings of ids need not be names
  }
}

function byPrefix(records: readonly ImageRecord[], text: string): ImageRecord | undefined {
  const hex = text.replace(/^sha256:/, '');
  if (!/^[0-9a-f]{2,64}$/.test(hex)) return undefined;
  const found = records.filter(record => record.id.startsWith(`sha256:${hex}`));
  if (found.length > 1)
    throw new BerthError('invalid_argument', `${found.length} images have an id that begins with ${hex}`, {
      hint: 'write more of it',
    });
  return found[0];
}

/** The record without a tag or digest. */
export function withoutName(record: ImageRecord, name: string): ImageRecord {
  return {
    ...record,
    tags: record.tags.filter(tag => tag !== name),
    digests: record.digests.filter(digest => digest !== name),
  };
}

/** What a collection looks at. */
export interface Collected {
  readonly records: () => readonly ImageRecord[];
  readonly layers: Layers;
  readonly content: Content;
  readonly partials: Partials;
  readonly pins: Pins;
  /** Keys of layers that containers stand on. */
  readonly layersInUse: () => Iterable<string>;
}

/** What interrupted pulls left may wait so long for the pull that goes on with it. */
const leftoverAgeMaxMs = 7 * 24 * 60 * 60 * 1000;

/**
 * Removes the layers and documents that no image, no container and no running
 * pull needs. `leftovers` says which of the beginnings of blobs, and of the layers
 * that no image has used yet, go, too: all, or those that are too old.
 */
export async function collectUnused(parts: Collected, leftovers: 'all' | 'old'): Promise<void> {
  const { layers, content, partials, pins, layersInUse } = parts;
  const present = await content.list();
  const begun = await partials.list();
  const young = leftovers === 'old' ? await layers.unclaimed(leftoverAgeMaxMs) : new Set<string>();
  // From here to the first await nothing may be pinned, recorded or unpinned.
  const recorded = parts.records();
  const standing = new Set(layersInUse());
  const usedKeys = new Set([...recorded.flatMap(record => record.layerKeys), ...standing, ...young]);
  const usedDigests = new Set<string>(recorded.flatMap(record => record.content.map(blob => blob.digest)));
  const unusedBlobs = present.filter(digest => !usedDigests.has(digest) && !pins.has(digest));
  // A daemon that was killed may have given a layer its name and not have come to its blob.
  const unpacked = new Set<string>(layers.list().flatMap(({ blob }) => blob?.digest ?? []));
  const unusedPartials = begun.filter(
    ({ digest, ageMs }) =>
      !pins.has(digest) && (leftovers === 'all' || unpacked.has(digest) || ageMs > leftoverAgeMaxMs),
  );
  const collected = layers.collect(
    key => usedKeys.has(key) || pins.has(key),
    key => standing.has(key),
  );
  await Promise.all([
    collected,
    ...unusedBlobs.map(digest => content.remove(digest)),
    ...unusedPartials.map(({ digest }) => partials.remove(digest)),
  ]);
}
