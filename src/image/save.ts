import { createHash } from 'node:crypto';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { ArchiveOutput } from './archive-output';
import { blobName } from './archive';
import { algorithmOf, hexOf, type Digest } from './digest';
import { mediaTypes } from './documents';
import { documentsOf, LayerBlobs, type Bundle, type Exported, type ExportParts } from './exported';
import type { OnProgress } from './pull';
import { familiarForm, parseReference } from './reference';

/**
 * Writes images as an OCI image layout that is a docker archive, too. Layers are
 * written as the registry has them, so that the image stays the same to the last
 * digest: from the blobs that are kept, else they are fetched again, into `dir`,
 * before the first byte is written.
 */
export async function saveImages(
  parts: ExportParts,
  ctx: Context,
  bundles: readonly Bundle[],
  dir: string,
  output: ArchiveOutput,
  onProgress: OnProgress,
): Promise<void> {
  const bundled: ExportedBundle[] = [];
  for (const { images, ...rest } of bundles) {
    const exported: Exported[] = [];
    for (const saved of images) exported.push(await documentsOf(parts.content, saved, 'save'));
    bundled.push({ ...rest, images: exported });
  }
  const exports = bundled.flatMap(({ images }) => images);
  await using blobs = new LayerBlobs(parts, dir, 'save', onProgress);
  for (const { saved, layers } of exports) await blobs.bring(ctx, saved, layers);

  ctx.stage('write the archive');
  const written = new Set<Digest>();
  const write = async (digest: Digest, sizeBytes: number, bytes: AsyncIterable<Buffer> | Buffer[]) => {
    if (written.has(digest)) return;
    written.add(digest);
    await output.file(blobName(digest), sizeBytes, compared(digest, sizeBytes, bytes));
  };
  const text = (name: string, json: unknown) => {
    const bytes = Buffer.from(JSON.stringify(json));
    return output.file(name, bytes.length, [bytes]);
  };
  await text('oci-layout', { imageLayoutVersion: '1.0.0' });
  for (const algorithm of ['sha256', 'sha512'])
    if (exports.some(one => digestsOf(one).some(digest => digest.startsWith(algorithm))))
      await output.directory(`blobs/${algorithm}`);
  for (const { index } of bundled) if (index) await write(index.digest, index.bytes.length, [index.bytes]);
  for (const { manifest, config, layers } of exports) {
    await write(manifest.digest, manifest.bytes.length, [manifest.bytes]);
    await write(config.digest, config.bytes.length, [config.bytes]);
    for (const layer of layers) {
      if (written.has(layer.digest)) continue;
      await write(layer.digest, layer.sizeBytes, blobs.read(layer.digest));
    }
  }
  await text('index.json', indexOf(bundled));
  await text('manifest.json', dockerManifestOf(bundled));
  await output.end();
}

interface ExportedBundle extends Omit<Bundle, 'images'> {
  readonly images: readonly Exported[];
}

function digestsOf({ manifest, config, layers }: Exported): Digest[] {
  return [manifest.digest, config.digest, ...layers.map(({ digest }) => digest)];
}

/** Hands the bytes on and fails in the end when they are not what their name says: disks forget. */
export async function* compared(
  digest: Digest,
  sizeBytes: number,
  bytes: AsyncIterable<Buffer> | Buffer[],
): AsyncGenerator<Buffer, void> {
  const hash = createHash(algorithmOf(digest));
  let left = sizeBytes;
  for await (const chunk of bytes) {
    left -= chunk.length;
    hash.update(chunk);
    if (left >= 0) yield chunk;
  }
  if (left === 0 && hash.digest('hex') === hexOf(digest)) return;
  throw new BerthError('data_loss', `the blob ${digest} in the store is damaged`, {
    hint: 'repair it with: berth check --repair',
  });
}

/** An entry for each name, as containerd and docker have it; one without a name otherwise. */
function indexOf(bundles: readonly ExportedBundle[]): object {
  return {
    schemaVersion: 2,
    mediaType: mediaTypes.ociIndex,
    manifests: bundles.flatMap(({ index, images, tags }) => {
      const entries = index
        ? [entryOf(index)]
        : images.map(image => ({ ...entryOf(image.manifest), ...platformOf(image) }));
      if (tags.length === 0) return entries;
      return entries.flatMap(entry =>
        tags.map(tag => ({
          ...entry,
          annotations: {
            'io.containerd.image.name': tag,
            'org.opencontainers.image.ref.name': parseReference(tag).tag ?? '',
          },
        })),
      );
    }),
  };
}

function entryOf({ mediaType, digest, bytes }: Exported['manifest']): object {
  return { mediaType, digest, size: bytes.length };
}

function platformOf({ saved: { record } }: Exported): object {
  const { os, architecture, variant } = record.config;
  return { platform: { os, architecture, ...(variant === undefined ? {} : { variant }) } };
}

/** What docker and podman look for; it has one image under a name, of an index the first. */
function dockerManifestOf(bundles: readonly ExportedBundle[]): object {
  const named = bundles.flatMap(({ images, tags }) => images.slice(0, 1).map(image => ({ ...image, tags })));
  return named.map(({ config, layers, tags }) => ({
    Config: blobName(config.digest),
    RepoTags: tags.map(tag => familiarForm(parseReference(tag))),
    Layers: layers.map(({ digest }) => blobName(digest)),
  }));
}
