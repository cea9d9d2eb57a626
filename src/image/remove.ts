import { BerthError } from '../base/errors';
import type { Content } from './content/content';
import type { Pins } from './pins';
import type { ImageRecord } from './record';
import { canonicalForm, parseReference } from './reference';
import type { Layers } from './snapshot/layers';

/** The image that a name, an id or the beginning of an id means; names first, since `cafe` may be either. */
export function findImage(records: readonly ImageRecord[], refOrId: string): ImageRecord | undefined {
  return byId(records, refOrId) ?? byName(records, refOrId) ?? byPrefix(records, refOrId);
}

function byId(records: readonly ImageRecord[], id: string): ImageRecord | undefined {
  return records.find(record => record.id === id || record.id === `sha256:${id}`);
}

function byName(records: readonly ImageRecord[], text: string): ImageRecord | undefined {
  const name = canonicalOrUndefined(text);
  if (name === undefined) return undefined;
  const withoutTag = name.includes('@') ? name.replace(/:[^/@]*@/, '@') : name;
  return records.find(({ tags, digests }) => tags.includes(name) || digests.includes(withoutTag));
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

/** Removes the layers and documents that no image, no container and no running pull needs. */
export async function collectUnused(
  records: () => readonly ImageRecord[],
  layers: Layers,
  content: Content,
  pins: Pins,
  layersInUse: () => Iterable<string>,
): Promise<void> {
  const present = await content.list();
  // From here to the first await nothing may be pinned, recorded or unpinned.
  const recorded = records();
  const usedKeys = new Set([...recorded.flatMap(record => record.layerKeys), ...layersInUse()]);
  const usedDigests = new Set<string>(recorded.flatMap(record => record.content.map(blob => blob.digest)));
  const unusedBlobs = present.filter(digest => !usedDigests.has(digest) && !pins.has(digest));
  const collected = layers.collect(key => usedKeys.has(key) || pins.has(key));
  await Promise.all([collected, ...unusedBlobs.map(digest => content.remove(digest))]);
}
