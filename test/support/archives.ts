import { buildImage, tar, type BuiltImage, type TarEntry } from './image-builder';

/** What `docker save` wrote before its archives were OCI layouts, too: plain layers, in a directory each. */
export function dockerArchive(
  image: BuiltImage,
  layers: readonly Buffer[],
  repoTags: readonly string[] | null,
  changes: { manifest?: object; files?: TarEntry[] } = {},
): Buffer {
  const configName = `${image.id.slice('sha256:'.length)}.json`;
  const names = layers.map((_, i) => `layer${i}/layer.tar`);
  const manifest = { Config: configName, RepoTags: repoTags, Layers: names, ...changes.manifest };
  return tar([
    { path: configName, data: image.config.bytes },
    ...layers.flatMap((bytes, i): TarEntry[] => [
      { path: `layer${i}/`, type: 'dir' },
      { path: `layer${i}/layer.tar`, data: bytes },
    ]),
    ...(changes.files ?? []),
    { path: 'manifest.json', data: JSON.stringify([manifest]) },
  ]);
}

/** An OCI image layout as a tar; `annotations` are those of its only entry. */
export function ociArchive(image: BuiltImage, annotations: Record<string, string>): Buffer {
  const { manifest } = image;
  const entry = { mediaType: manifest.mediaType, digest: manifest.digest, size: manifest.bytes.length, annotations };
  return tar([
    { path: 'oci-layout', data: '{"imageLayoutVersion":"1.0.0"}' },
    { path: 'index.json', data: JSON.stringify({ schemaVersion: 2, manifests: [entry] }) },
    ...[manifest, image.config, ...image.layers].map(({ digest, bytes }) => ({
      path: `blobs/${digest.replace(':', '/')}`,
      data: bytes,
    })),
  ]);
}

/** A small image, and its layers as plain tars. */
export function smallImage(text: string): { image: BuiltImage; layers: Buffer[] } {
  const layers = [tar([{ path: 'a', data: `base of ${text}` }]), tar([{ path: 'b', data: text }])];
  return { image: buildImage({ layers }), layers };
}

/** A zstd frame (RFC 8878) of blocks that are stored as they are: Node has no zstd before version 22. */
export function zstdOf(bytes: Buffer): Buffer {
  const blockMax = 128 * 1024;
  const head = Buffer.from('28b52ffde00000000000000000', 'hex'); // single segment, content size in 8 bytes
  head.writeBigUInt64LE(BigInt(bytes.length), 5);
  const blocks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += blockMax) {
    const block = bytes.subarray(at, at + blockMax);
    const isLast = at + blockMax >= bytes.length ? 1 : 0;
    const blockHead = Buffer.alloc(3);
    blockHead.writeUIntLE((block.length << 3) | isLast, 0, 3);
    blocks.push(blockHead, block);
  }
  return Buffer.concat([head, ...blocks]);
}
