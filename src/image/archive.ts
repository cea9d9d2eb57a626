import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { z } from 'zod';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { ArchiveFiles } from './archive-files';
import { algorithmOf, digestOf, hexOf, isDigest, parseDigest, sha256, type Digest } from './digest';
import { choose, mediaTypes, parseDocument, parseManifest, type Descriptor } from './documents';
import { describePlatform, type Platform } from './platform';
import { canonicalForm, parseReference, tagForm, type Reference } from './reference';
import type { BlobBytes, ImageSource } from './source';

/** An image that an archive offers. */
export interface ArchiveImage {
  readonly source: ImageSource;
  /** Of its manifest, or of an index that leads there. */
  readonly digest: Digest;
  /** The names that the archive has for it: tags, in full. */
  readonly names: readonly Reference[];
  /** Which of an index; undefined for the node's. */
  readonly platform?: Platform;
  /** The manifest is one that others know, too, not one that was written down here. */
  readonly isOriginal: boolean;
}

const imagesMax = 1000;

/** What the archive holds for this node; its documents are read, its layers not yet. */
export async function readArchive(files: ArchiveFiles, node: Platform): Promise<ArchiveImage[]> {
  const images = (await files.has('index.json'))
    ? await readLayout(files, node)
    : (await files.has('manifest.json'))
      ? await readDockerArchive(files, node)
      : undefined;
  if (images && images.length > 0) return images;
  throw new BerthError(
    'failed_precondition',
    images
      ? `${files.what} holds no image`
      : `${files.what} has neither index.json nor manifest.json: it is no archive of images`,
    { hint: 'an archive of a file system becomes an image with: berth image import' },
  );
}

/* ---- OCI image layout ---- */

const layoutShape = z.object({ imageLayoutVersion: z.string().startsWith('1.') });
const indexShape = z.object({
  manifests: z
    .array(
      z.object({
        mediaType: z.string().optional(),
        digest: z.string().refine(isDigest, 'is not a digest'),
        size: z.number().int().nonnegative(),
        annotations: z.record(z.string(), z.string()).nullish(),
      }),
    )
    .max(imagesMax),
});

/** The one that says a name in full comes first (containerd and docker write it); the other may be a bare tag. */
const nameAnnotations = ['io.containerd.image.name', 'org.opencontainers.image.ref.name'] as const;

async function readLayout(files: ArchiveFiles, node: Platform): Promise<ArchiveImage[]> {
  if (await files.has('oci-layout'))
    parseDocument(layoutShape, await files.document('oci-layout'), `oci-layout of ${files.what}`);
  const bytes = await files.document('index.json');
  const what = `index.json of ${files.what}`;
  const index = parseManifest(bytes, mediaTypes.ociIndex, what);
  if (index.kind !== 'index') throw new BerthError('internal', `${what} is not an index`);
  const nameOf = new Map<Digest, Set<string>>();
  for (const { digest, annotations } of parseDocument(indexShape, bytes, what).manifests) {
    const names = nameOf.get(digest) ?? new Set();
    const name = layoutName(annotations ?? {}, what);
    if (name !== undefined) names.add(name);
    nameOf.set(digest, names);
  }
  const source = new ArchiveSource(files, new Map(), blobName);
  // One image for several platforms has one name, or none, in several entries.
  const byName = new Map<string, (typeof index.entries)[number][]>();
  for (const entry of index.entries) {
    const names = [...(nameOf.get(entry.descriptor.digest) ?? [])].sort().join(' ');
    byName.set(names, [...(byName.get(names) ?? []), entry]);
  }
  const images = [...byName].flatMap(([names, entries]) => {
    const digests = new Set(entries.map(({ descriptor }) => descriptor.digest));
    const hasPlatforms = digests.size > 1 && entries.some(({ platform }) => platform);
    const wanted = hasPlatforms ? [choose({ kind: 'index', entries, leftOut: 0 }, node, what).digest] : digests;
    if (names !== '' && !hasPlatforms && digests.size > 1)
      throw new BerthError('failed_precondition', `${what} has several images called ${names}`);
    return [...wanted].map(digest => ({
      source,
      digest,
      names: referencesOf(names.split(' '), what),
      isOriginal: true,
    }));
  });
  return (await Promise.all(images.map(image => ofEachPlatform(files, image, node)))).flat();
}

/** Of an index those of its images that the archive has, which need not be all; of a manifest the image itself, whatever it is for. */
async function ofEachPlatform(files: ArchiveFiles, image: ArchiveImage, node: Platform): Promise<ArchiveImage[]> {
  const name = blobName(image.digest);
  const what = `${name} of ${files.what}`;
  const document = parseManifest(await files.document(name), undefined, what, { allowForeignLayers: true });
  if (document.kind === 'manifest') {
    const config = blobName(document.config.digest);
    return [{ ...image, ...otherPlatform(await files.document(config), `${config} of ${files.what}`, node) }];
  }
  const platforms = new Map<Digest, Platform>();
  for (const { descriptor, platform } of document.entries)
    if (platform && (await files.has(blobName(descriptor.digest)))) platforms.set(descriptor.digest, platform);
  return platforms.size === 0 ? [image] : [...platforms.values()].map(platform => ({ ...image, platform }));
}

const platformShape = z.object({ os: z.string(), architecture: z.string(), variant: z.string().nullish() });

/** What a config says that its image is for, if it is not for the node. */
function otherPlatform(config: Buffer, what: string, node: Platform): { platform?: Platform } {
  const { os, architecture, variant } = parseDocument(platformShape, config, what);
  if (os === node.os && architecture === node.architecture) return {};
  return { platform: { os, architecture, ...(variant ? { variant } : {}) } };
}

function layoutName(annotations: Record<string, string>, what: string): string | undefined {
  const [full, either] = nameAnnotations.map(key => annotations[key]);
  if (full !== undefined) return canonicalTag(full, what);
  // `1.2` alone is a tag of nothing that is said.
  return either !== undefined && /[/:]/.test(either) ? canonicalTag(either, what) : undefined;
}

/* ---- docker archive ---- */

const dockerShape = z
  .array(
    z.object({
      Config: z.string(),
      RepoTags: z.array(z.string()).max(imagesMax).nullish(),
      Layers: z.array(z.string()).max(500, 'has more than 500 layers').nullish(),
    }),
  )
  .max(imagesMax);

const configShape = z.object({
  rootfs: z.object({ diff_ids: z.array(z.string().refine(isDigest, 'is not a digest')).nullish() }),
});

/** What `docker save` writes: manifest.json names, for each image, its config and its layers, base first. */
async function readDockerArchive(files: ArchiveFiles, node: Platform): Promise<ArchiveImage[]> {
  const what = `manifest.json of ${files.what}`;
  const images: ArchiveImage[] = [];
  for (const { Config, RepoTags, Layers } of parseDocument(dockerShape, await files.document('manifest.json'), what))
    images.push(await dockerImage(files, node, Config, Layers ?? [], referencesOf(RepoTags ?? [], what)));
  return images;
}

/** It has no manifest of the kind that registries have, so one is written for it. */
async function dockerImage(
  files: ArchiveFiles,
  node: Platform,
  configName: string,
  layerNames: readonly string[],
  names: readonly Reference[],
): Promise<ArchiveImage> {
  const config = await files.document(configName);
  const what = `${configName} of ${files.what}`;
  const diffIds = parseDocument(configShape, config, what).rootfs.diff_ids ?? [];
  if (diffIds.length !== layerNames.length)
    throw new BerthError(
      'failed_precondition',
      `${what} is malformed: it names ${diffIds.length} layers, and manifest.json ${layerNames.length}`,
    );
  const layers: Descriptor[] = [];
  const nameOf = new Map<Digest, string>();
  for (const [i, name] of layerNames.entries()) {
    const layer = await dockerLayer(files, name, diffIds[i] ?? digestOf(config));
    nameOf.set(layer.digest, name);
    layers.push(layer);
  }
  const { digest, documents } = writeManifest(config, layers);
  const source = new ArchiveSource(files, documents, layer => nameOf.get(layer) ?? blobName(layer));
  return { source, digest, names, isOriginal: false, ...otherPlatform(config, what, node) };
}

/** The descriptor of a layer: of a plain one, as nearly all are, its digest is its diff id, and unpacking compares it. */
async function dockerLayer(files: ArchiveFiles, name: string, diffId: Digest): Promise<Descriptor> {
  await using file = await files.file(name);
  const { size: sizeBytes } = await file.stat();
  const mediaType = await layerTypeOf(file);
  if (mediaType === mediaTypes.ociLayer) return { mediaType, digest: diffId, sizeBytes };
  const [, hex] = /^blobs\/sha256\/([0-9a-f]{64})$/.exec(name) ?? [];
  return { mediaType, digest: hex === undefined ? await hashOf(file) : sha256(hex), sizeBytes };
}

/** By how its bytes begin. */
export async function layerTypeOf(file: FileHandle): Promise<string> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
  const magic = buffer.subarray(0, bytesRead).toString('hex');
  if (magic.startsWith('1f8b')) return mediaTypes.ociLayerGzip;
  return magic === '28b52ffd' ? 'application/vnd.oci.image.layer.v1.tar+zstd' : mediaTypes.ociLayer;
}

/** In small pieces, since it is done here: only archives that nobody's current tool writes need it. */
async function hashOf(file: FileHandle): Promise<Digest> {
  const hash = createHash('sha256');
  for await (const chunk of file.createReadStream({ start: 0, autoClose: false, highWaterMark: 256 * 1024 }))
    hash.update(chunk as Buffer);
  return sha256(hash.digest('hex'));
}

/** A manifest for a config and layers, and both documents by digest. */
export function writeManifest(
  config: Buffer,
  layers: readonly Descriptor[],
  configType: string = mediaTypes.ociConfig,
): { digest: Digest; manifest: Buffer; documents: ReadonlyMap<Digest, Buffer> } {
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: configType, digest: digestOf(config), size: config.length },
      layers: layers.map(({ mediaType, digest, sizeBytes }) => ({ mediaType, digest, size: sizeBytes })),
    }),
  );
  const digest = digestOf(manifest);
  return {
    digest,
    manifest,
    documents: new Map([
      [digest, manifest],
      [digestOf(config), config],
    ]),
  };
}

export type IndexEntry = { readonly descriptor: Descriptor; readonly platform: Platform };

/** An index over images, one for each platform. */
export function writeIndex(entries: readonly IndexEntry[]): { digest: Digest; bytes: Buffer } {
  const names = entries.map(({ platform }) => describePlatform(platform));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new BerthError('failed_precondition', `an index has one image for each platform, and two are for ${twice}`, {
      hint: 'ask for each platform once, and let the last FROM of the Dockerfile leave --platform out',
    });
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociIndex,
      manifests: entries.map(({ descriptor: { mediaType, digest, sizeBytes }, platform }) => {
        const { os, architecture, variant } = platform;
        return { mediaType, digest, size: sizeBytes, platform: { os, architecture, variant } };
      }),
    }),
  );
  return { digest: digestOf(bytes), bytes };
}

/* ---- both ---- */

/** Where an OCI image layout has a blob. */
export function blobName(digest: Digest): string {
  return `blobs/${algorithmOf(digest)}/${hexOf(digest)}`;
}

/** The documents that are at hand, else files of the archive. Whatever it hands over is compared by who asked. */
export class ArchiveSource implements ImageSource {
  constructor(
    private readonly files: ArchiveFiles,
    private readonly documents: ReadonlyMap<Digest, Buffer>,
    private readonly nameOf: (digest: Digest) => string,
  ) {}

  async manifest(
    _ctx: Context,
    which: string,
  ): Promise<{ digest: Digest; mediaType: string | undefined; bytes: Buffer }> {
    const digest = parseDigest(which, this.files.what);
    const bytes = await this.document(digest);
    return { digest: digestOf(bytes, algorithmOf(digest)), mediaType: undefined, bytes };
  }

  smallBlob(_ctx: Context, digest: Digest): Promise<Buffer> {
    return this.document(digest);
  }

  async blob(_ctx: Context, digest: Digest): Promise<BlobBytes> {
    const file = await this.files.file(this.nameOf(digest));
    return { offset: 0, from: this.files.what, file, close: () => file.close() };
  }

  private async document(digest: Digest): Promise<Buffer> {
    return this.documents.get(digest) ?? (await this.files.document(this.nameOf(digest)));
  }
}

function referencesOf(names: readonly string[], what: string): Reference[] {
  return names.filter(name => name !== '').map(name => parseReference(canonicalTag(name, what)));
}

/** The name in full. A digest is not given away: it would say that a registry vouches for the image. */
function canonicalTag(name: string, what: string): string {
  try {
    const reference = parseReference(name);
    if (tagForm(reference) !== undefined) return canonicalForm(reference);
  } catch (error) {
    throw new BerthError('failed_precondition', `${what}: ${error instanceof Error ? error.message : ''}`, {
      cause: error,
    });
  }
  throw new BerthError('failed_precondition', `${what}: an image is called ${JSON.stringify(name)}, which is no tag`);
}
