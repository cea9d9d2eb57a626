import { createHash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import { streamOf } from './blob-stream';
import type { Content } from './content/content';
import { algorithmOf, hexOf, type Digest } from './digest';
import { documentBytesMax, indexTypes, mediaTypes, parseManifest, type Descriptor, type Index } from './documents';
import { fullDisk } from './incoming';
import { manifestOf } from './manifest-of';
import type { LayerProgress, OnProgress } from './pull';
import type { ImageRecord } from './record';
import type { ImageSource } from './source';

/** An image to be written somewhere, and the tags that it is known by, in full. */
export interface Saved {
  readonly record: ImageRecord;
  readonly tags: readonly string[];
}

export interface ExportParts {
  readonly content: Content;
  /** Where the image came from, by one of its digests: `registry.example/app@sha256:…`. */
  readonly registryOf: (digestForm: string) => Promise<ImageSource>;
  /** Where a layer came from that the image itself did not: `registry.example/app`. */
  readonly repositoryOf: (layer: Digest) => string | undefined;
}

/** What goes somewhere under one name, or none: an image, or an index and all of its images. */
export interface Bundle {
  readonly images: readonly Saved[];
  readonly index: (Document & { readonly mediaType: string }) | undefined;
  /** In full. */
  readonly tags: readonly string[];
}

/**
 * What images that have a name in common are together. Of several that are not the whole of an index it is the first:
 * an index with the rest would be another one than its digest says.
 */
export async function bundleOf(
  content: Pick<Content, 'read'>,
  records: readonly ImageRecord[],
  tags: readonly string[],
): Promise<Bundle> {
  const index = records.length > 1 ? await wholeIndex(content, records) : undefined;
  if (!index) return { images: records.slice(0, 1).map(record => ({ record, tags })), index, tags };
  const images = records.map(record => ({ record: { ...record, content: withinIndex(record, index) }, tags }));
  return { images, index, tags };
}

interface FoundIndex extends Document {
  readonly mediaType: string;
  /** Of the manifests. */
  readonly names: ReadonlySet<string>;
}

/** The index that has brought all of the images, and that names nothing else. */
async function wholeIndex(
  content: Pick<Content, 'read'>,
  records: readonly ImageRecord[],
): Promise<FoundIndex | undefined> {
  const isInAll = (name: Digest) => records.every(record => record.content.some(({ digest }) => digest === name));
  const kept = new Map(records.flatMap(record => record.content.map(({ digest, sizeBytes }) => [digest, sizeBytes])));
  for (const [digest, sizeBytes] of kept) {
    const bytes = sizeBytes > documentBytesMax || !isInAll(digest) ? undefined : await content.read(digest);
    const index = bytes && indexIn(bytes);
    if (!index || index.leftOut > 0) continue;
    const names = new Set(index.entries.map(({ descriptor }) => descriptor.digest));
    const isWhole =
      index.entries.every(
        ({ descriptor }) => kept.has(descriptor.digest) && !indexTypes.includes(descriptor.mediaType),
      ) && records.every(record => record.content.some(one => names.has(one.digest)));
    if (isWhole) return { digest, bytes, mediaType: indexTypeOf(bytes), names };
  }
  return undefined;
}

/** Some of what an image keeps are layers, and whoever made them may have had one begin as an index does. */
function indexIn(bytes: Buffer): Index | undefined {
  if (bytes[0] !== 0x7b || !bytes.includes('"manifests"')) return undefined;
  try {
    const document = parseManifest(bytes, undefined, 'an index');
    return document.kind === 'index' ? document : undefined;
  } catch {
    return undefined;
  }
}

/** Of an image's documents the config and the manifest that the index names; others may lead to the same config. */
function withinIndex({ id, content }: ImageRecord, { names }: FoundIndex): ImageRecord['content'] {
  return content.filter(({ digest }) => digest === id || names.has(digest));
}

function indexTypeOf(bytes: Buffer): string {
  return bytes.includes(mediaTypes.dockerList) ? mediaTypes.dockerList : mediaTypes.ociIndex;
}

interface Document {
  readonly digest: Digest;
  readonly bytes: Buffer;
}

/** An image as registries and archives have it. */
export interface Exported {
  readonly saved: Saved;
  readonly manifest: Document & { readonly mediaType: string };
  readonly config: Document;
  readonly layers: readonly Descriptor[];
}

/** The manifest whose config is the image; an index is left out, since the images of other platforms are not here. */
export async function documentsOf(content: Content, saved: Saved, verb: 'save' | 'push'): Promise<Exported> {
  const { record } = saved;
  const found = await manifestOf(content, record.id, record.content);
  if (found) {
    const { digest, bytes, manifest, config } = found;
    const mediaType =
      manifest.config.mediaType === mediaTypes.ociConfig ? mediaTypes.ociManifest : mediaTypes.dockerManifest;
    return {
      saved,
      manifest: { digest, bytes, mediaType },
      config: { digest: record.id, bytes: config },
      layers: manifest.layers,
    };
  }
  throw new BerthError('data_loss', `${verb} ${nameOf(saved)}: its manifest or its config is not in the store`, {
    hint: `bring the image again, then ${verb} it`,
  });
}

/** The layers, each open until all is written: nothing can take them away meanwhile. */
export class LayerBlobs implements AsyncDisposable {
  private readonly files = new Map<Digest, FileHandle>();

  constructor(
    private readonly parts: ExportParts,
    private readonly dir: string,
    private readonly verb: 'save' | 'push',
    private readonly onProgress: OnProgress,
  ) {}

  async bring(ctx: Context, saved: Saved, layers: readonly Descriptor[]): Promise<void> {
    const missing: Descriptor[] = [];
    for (const layer of layers) {
      if (this.files.has(layer.digest)) continue;
      const kept = await this.parts.content.open(layer.digest);
      if (kept) this.files.set(layer.digest, kept);
      else missing.push(layer);
    }
    const fetched = missing.filter((layer, i) => missing.findIndex(({ digest }) => digest === layer.digest) === i);
    for (const layer of fetched) this.onProgress(progressOf(layer, 'waiting', 0));
    for (const layer of fetched) this.files.set(layer.digest, await this.fetch(ctx, saved, layer));
  }

  /** The open file of a layer that was brought. */
  file(digest: Digest): FileHandle {
    const file = this.files.get(digest);
    if (file) return file;
    throw new BerthError('internal', `the layer ${digest} is not open`);
  }

  read(digest: Digest): AsyncIterable<Buffer> {
    const file = this.file(digest);
    return file.createReadStream({ start: 0, autoClose: false, highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const file of this.files.values()) await file.close();
  }

  /** From any of the places that the image came from. */
  private async fetch(ctx: Context, saved: Saved, layer: Descriptor): Promise<FileHandle> {
    const name = nameOf(saved);
    const what = `${this.verb} ${name}: the node has not kept the compressed layer ${layer.digest}`;
    const hint = `set image.keep_layer_blobs, bring the image again, then ${this.verb} it`;
    const errors: unknown[] = [];
    const own = this.parts.repositoryOf(layer.digest);
    const ofLayer = own === undefined ? [] : [`${own}@${layer.digest}`];
    for (const place of [...saved.record.digests, ...ofLayer]) {
      ctx.stage(`fetch the layer ${layer.digest} of ${name} again`);
      const path = join(this.dir, hexOf(layer.digest));
      const file = await open(path, 'w+', 0o600);
      try {
        await download(ctx, await this.parts.registryOf(place), layer, file, done =>
          this.onProgress(progressOf(layer, 'downloading', done)),
        );
        this.onProgress(progressOf(layer, 'done', layer.sizeBytes));
        return file;
      } catch (error) {
        await file.close();
        ctx.throwIfEnded();
        errors.push(fullDisk(error, what));
      }
    }
    const [first] = errors;
    if (first === undefined)
      throw new BerthError('failed_precondition', `${what}, and it came from no registry`, { hint });
    if (!(first instanceof BerthError)) throw first;
    throw new BerthError(first.kind, `${what}, and its registry does not give it again: ${first.message}`, {
      cause: first,
      hint,
    });
  }
}

/** Writes a layer into `file` and compares it with its descriptor. */
async function download(
  ctx: Context,
  source: ImageSource,
  layer: Descriptor,
  file: FileHandle,
  onBytes: (done: number) => void,
): Promise<void> {
  const hash = createHash(algorithmOf(layer.digest));
  let done = 0;
  for await (const chunk of streamOf(await source.blob(ctx, layer.digest, 0), ctx.signal) as AsyncIterable<Buffer>) {
    ctx.throwIfEnded();
    done += chunk.length;
    if (done > layer.sizeBytes) break;
    hash.update(chunk);
    await file.writeFile(chunk);
    onBytes(done);
  }
  const found = `${algorithmOf(layer.digest)}:${hash.digest('hex')}`;
  if (done === layer.sizeBytes && found === layer.digest) return;
  throw new BerthError('data_loss', `layer ${layer.digest}: what came has digest ${found} and ${done} bytes`, {
    hint: 'the registry, or something before it, is damaged',
  });
}

/** As a person knows it. */
function nameOf({ record, tags }: Saved): string {
  return tags[0] ?? record.tags[0] ?? record.id;
}

function progressOf(layer: Descriptor, phase: LayerProgress['phase'], doneBytes: number): LayerProgress {
  return { layer: layer.digest, phase, doneBytes, totalBytes: layer.sizeBytes };
}
