import { createHash } from 'node:crypto';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { ArchiveOutput } from './archive-output';
import { blobName } from './archive';
import { algorithmOf, hexOf, type Digest } from './digest';
import { mediaTypes } from './documents';
import { documentsOf, LayerBlobs, type Exported, type ExportParts, type Saved } from './exported';
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
  images: readonly Saved[],
  dir: string,
  output: ArchiveOutput,
  onProgress: OnProgress,
): Promise<void> {
  const exports: Exported[] = [];
  for (const saved of images) exports.push(await documentsOf(parts.content, saved, 'save'));
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
  for (const { manifest, config, layers } of exports) {
    await write(manifest.digest, manifest.bytes.length, [manifest.bytes]);
    await write(config.digest, config.bytes.length, [config.bytes]);
    for (const layer of layers) {
      if (written.has(layer.digest)) continue;
      await write(layer.digest, layer.sizeBytes, blobs.read(layer.digest));
    }
  }
  await text('index.json', indexOf(exports));
  await text('manifest.json', dockerManifestOf(exports));
  await output.end();
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
function indexOf(exports: readonly Exported[]): object {
  return {
    schemaVersion: 2,
    mediaType: mediaTypes.ociIndex,
    manifests: exports.flatMap(({ manifest, saved: { record, tags } }) => {
      const { os, architecture, variant } = record.config;
      const entry = {
        mediaType: manifest.mediaType,
        digest: manifest.digest,
        size: manifest.bytes.length,
        platform: { os, architecture, ...(variant === undefined ? {} : { variant }) },
      };
      if (tags.length === 0) return [entry];
      return tags.map(tag => ({
        ...entry,
        annotations: {
          'io.containerd.image.name': tag,
          'org.opencontainers.image.ref.name': parseReference(tag).tag ?? '',
        },
      }));
    }),
  };
}

/** What docker and podman look for. */
function dockerManifestOf(exports: readonly Exported[]): object {
  return exports.map(({ config, layers, saved: { tags } }) => ({
    Config: blobName(config.digest),
    RepoTags: tags.map(tag => familiarForm(parseReference(tag))),
    Layers: layers.map(({ digest }) => blobName(digest)),
  }));
}
