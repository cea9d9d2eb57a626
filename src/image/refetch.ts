import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { Content } from './content/content';
import type { Digest } from './digest';
import { unpackBlob, type PullParts } from './pull';
import type { ImageRecord } from './record';
import { parseReference, repositoryForm, type Reference } from './reference';
import type { RegistryClient } from './registry/client';
import type { LayerBlob } from './snapshot/layers';
import { needsChain, type UnpackRequest } from './unpack/unpack';

type OpenRegistry = (reference: Reference) => Promise<RegistryClient>;

/**
 * Fetches the blob of a layer that is here, and replaces the layer: from where it came, or from anywhere that an image
 * came from which has it. `ensureLower` makes sure of those below it, which a layer that is right only on its chain needs.
 */
export async function fetchLayerAgain(
  parts: PullParts,
  ctx: Context,
  key: string,
  records: readonly ImageRecord[],
  ensureLower: (keys: readonly string[]) => Promise<unknown>,
  openRegistry: OpenRegistry,
): Promise<void> {
  const layer = parts.layers.get(key);
  if (!layer) return;
  if (!layer.blob) throw new BerthError('failed_precondition', 'it is not known where it came from');
  const owners = records.filter(({ layerKeys }) => layerKeys.includes(key));
  const [owner] = owners;
  const below = owner?.layerKeys.slice(0, owner.layerKeys.indexOf(key)) ?? [];
  const again = { key, blob: layer.blob, diffId: layer.diffId, below };
  let last: unknown = new BerthError('failed_precondition', 'it came out of a file, which is not kept');
  for (const repository of await placesOf(parts, layer.blob, owners)) {
    try {
      return await fetchFrom(parts, ctx, again, repository, ensureLower, openRegistry);
    } catch (error) {
      ctx.throwIfEnded();
      last = error;
    }
  }
  throw last;
}

/** Repositories; for a blob that is kept here it may be none. */
async function placesOf(
  { content }: PullParts,
  { digest, repository }: LayerBlob,
  owners: readonly ImageRecord[],
): Promise<string[]> {
  const others = owners.flatMap(({ digests }) => digests).map(name => repositoryForm(parseReference(name)));
  const places = new Set(repository === undefined ? others : [repository, ...others]);
  return places.size === 0 && (await content.has(digest)) ? ['none.invalid/none'] : [...places];
}

async function fetchFrom(
  parts: PullParts,
  ctx: Context,
  { key, blob, diffId, below }: { key: string; blob: LayerBlob; diffId: Digest; below: readonly string[] },
  repository: string,
  ensureLower: (keys: readonly string[]) => Promise<unknown>,
  openRegistry: OpenRegistry,
): Promise<void> {
  const { digest, sizeBytes, mediaType } = blob;
  const source = await openRegistry(parseReference(`${repository}@${digest}`));
  const origin = blob.repository === undefined ? undefined : repository;
  const request = { key, descriptor: { digest, sizeBytes, mediaType }, diffId, repository: origin };
  const attempt = (where: UnpackRequest['below']) =>
    parts.blobLocks.run(digest, () => unpackBlob(parts, ctx, source, { ...request, where, onBytes: () => undefined }));

  if (!key.startsWith('chain-')) {
    // It was right by itself; as somebody's lowest layer it may also have had directories that were only implied.
    if ((await attempt(below.length === 0 ? 'none' : 'unknown')) !== needsChain) return;
    await attempt('none');
    return;
  }
  await ensureLower(below);
  const lower = parts.layers.lowerDirs(below.flatMap(one => parts.layers.get(one) ?? []));
  if ((await attempt(lower)) === needsChain) throw new BerthError('internal', `layer ${key} is not right on its chain`);
}

/** Fetches a document of an image again, from any place where the image has a name. */
export async function fetchDocumentAgain(
  ctx: Context,
  record: ImageRecord,
  digest: Digest,
  content: Content,
  openRegistry: OpenRegistry,
): Promise<void> {
  const size = record.content.find(blob => blob.digest === digest)?.sizeBytes ?? 0;
  let last: unknown = new BerthError('failed_precondition', 'the image has no name in a registry');
  for (const name of record.digests) {
    try {
      const source = await openRegistry(parseReference(name));
      const bytes =
        digest === record.id ? await source.smallBlob(ctx, digest) : (await source.manifest(ctx, digest)).bytes;
      await content.ingest(digest, size, bytes, `${digest} of ${name}`);
      return;
    } catch (error) {
      ctx.throwIfEnded();
      last = error;
    }
  }
  throw last;
}
