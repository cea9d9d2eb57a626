import type { Content } from './content/content';
import type { Digest } from './digest';
import { documentBytesMax, parseManifest, type Manifest } from './documents';

/** An image's documents as they are in the store. */
export interface ImageDocuments {
  readonly digest: Digest;
  readonly bytes: Buffer;
  readonly manifest: Manifest;
  readonly config: Buffer;
}

/** The manifest whose config is the image `id`, among what the image keeps; undefined when one of the two is not there. */
export async function manifestOf(
  content: Content,
  id: Digest,
  kept: readonly { readonly digest: Digest; readonly sizeBytes: number }[],
): Promise<ImageDocuments | undefined> {
  const config = await content.read(id);
  if (!config) return undefined;
  for (const { digest, sizeBytes } of kept) {
    const bytes = digest === id || sizeBytes > documentBytesMax ? undefined : await content.read(digest);
    if (!bytes || !mayBeManifestOf(bytes, id)) continue;
    const manifest = parseManifest(bytes, undefined, `the manifest ${digest}`, { allowForeignLayers: true });
    if (manifest.kind === 'manifest') return { digest, bytes, manifest, config };
  }
  return undefined;
}

/** A quick look before the whole is checked: some of what an image keeps is no document. */
function mayBeManifestOf(bytes: Buffer, id: Digest): boolean {
  return bytes[0] === 0x7b && bytes.includes('"layers"') && bytes.includes(id);
}
