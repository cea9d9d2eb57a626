import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { Content } from './content/content';
import type { Digest } from './digest';
import { unpackBlob, type PullParts } from './pull';
import type { ImageRecord } from './record';
import { parseReference, type Reference } from './reference';
import type { RegistryClient } from './registry/client';
import { needsChain, type UnpackRequest } from './unpack/unpack';

type OpenRegistry = (reference: Reference) => Promise<RegistryClient>;

/**
 * Fetches the blob of a layer that is here, and replaces the layer. `ensureLower`
 * makes sure of those below it, which a layer that is right only on its chain needs.
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
  const owner = records.find(({ layerKeys }) => layerKeys.includes(key));
  const below = owner?.layerKeys.slice(0, owner.layerKeys.indexOf(key)) ?? [];
  const { digest, sizeBytes, mediaType, repository } = layer.blob;
  if (repository === undefined && !(await parts.content.has(digest)))
    throw new BerthError('failed_precondition', 'it came out of a file, which is not kept');
  const source = await openRegistry(parseReference(`${repository ?? 'none.invalid/none'}@${digest}`));
  const request = { key, descriptor: { digest, sizeBytes, mediaType }, diffId: layer.diffId, repository };
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
