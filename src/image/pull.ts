import { closeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { anySignal } from '../base/any-signal';
import { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { BerthError, kindOf, messageOf } from '../base/errors';
import { KeyedLock } from '../base/keyed-lock';
import { layerTypeOf } from './archive';
import type { Content } from './content/content';
import type { Partials } from './content/partials';
import { algorithmOf, chainIdOf, digestOf, isDigest, type Digest } from './digest';
import {
  candidates,
  notFor,
  offersOf,
  parseImageConfig,
  parseManifest,
  type Descriptor,
  type ImageConfig,
  type Manifest,
} from './documents';
import type { Platform } from './platform';
import { canonicalForm, type Reference } from './reference';
import { networkReason } from './registry/client';
import type { SharedFlight } from './shared-flight';
import type { Slots } from './slots';
import { chainKey, layerKey, type Begun, type Layer, type LayerRecord, type Layers } from './snapshot/layers';
import type { BlobBytes, ImageSource } from './source';
import { needsChain, syncFileSystem, unpackLayer, type UnpackRequest } from './unpack/unpack';
import { WriteBehind } from './write-behind';

export interface LayerProgress {
  readonly layer: Digest;
  readonly phase: 'waiting' | 'downloading' | 'done' | 'exists';
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export type OnProgress = (event: LayerProgress) => void;

/** What pulling works with; one for the whole daemon. */
export interface PullParts {
  readonly root: string;
  readonly content: Content;
  readonly partials: Partials;
  readonly layers: Layers;
  /** One unpack of a blob at a time, whatever it is unpacked for. */
  readonly blobLocks: KeyedLock;
  /** Resolves with the layer once it is known to be whole; with undefined when it is not. */
  readonly sound: (ctx: Context, layer: Layer) => Promise<Layer | undefined>;
  readonly keepLayerBlobs: boolean;
  readonly allowForeignLayers: boolean;
  readonly layerFlights: SharedFlight<Layer | typeof needsChain, LayerProgress>;
  readonly slots: Slots;
}

/** An image that is here, whole and on disk, but has no name yet. */
export interface FetchedImage {
  readonly id: Digest;
  /** Of what the name led to: the index, if there is one. */
  readonly digest: Digest;
  readonly config: ImageConfig;
  readonly layers: readonly Layer[];
  readonly content: readonly { readonly digest: Digest; readonly sizeBytes: number }[];
}

/** Which image, and where it is. */
export interface Wanted {
  readonly source: ImageSource;
  /** Where its blobs can be asked for another time; undefined for a file. */
  readonly repository: string | undefined;
  readonly reference: Reference;
  /** A tag or a digest. */
  readonly which: string;
  /** Of an index the image for it; an image for another one is refused. */
  readonly platform: Platform;
}

/** So often without a step forward. */
const downloadsMax = 3;

/** An index may hold an index, and so on; and so many documents in all are looked at. */
const depthMax = 4;
const documentsMax = 16;

/** The beginning of a smaller blob is not worth a file, and neither is that of one that comes faster than this. */
const partialBytesMin = 1024 * 1024;
const partialMsMin = 3000;

/**
 * Brings an image here: its documents, then its layers side by side, each
 * unpacked while it arrives, then one sync for all. It hands to `pin` what must
 * not be collected before the record is written.
 */
export async function fetchImage(
  parts: PullParts,
  ctx: Context,
  wanted: Wanted,
  pin: (name: string) => void,
  onProgress: OnProgress,
): Promise<FetchedImage> {
  const { reference } = wanted;
  ctx.stage(`read the manifest of ${canonicalForm(reference)}`);
  const documents = await fetchDocuments(parts, ctx, wanted);
  const { manifest, config } = documents;
  crashPoint('pull.manifest-read');
  for (const { digest } of [...documents.kept, ...manifest.layers]) pin(digest);
  await keepDocuments(parts, reference, documents.kept);
  crashPoint('pull.documents-kept');

  ctx.stage(`fetch the layers of ${canonicalForm(reference)}`);
  await using behind = new WriteBehind(() => syncFileSystem(parts.root));
  const onLayer = (event: LayerProgress) => {
    if (event.phase === 'downloading') behind.reached(event.layer, event.doneBytes);
    onProgress(event);
  };
  const layers = await fetchLayers(parts, ctx, wanted, documents, pin, onLayer);

  crashPoint('pull.layers-fetched');
  ctx.stage(`write ${canonicalForm(reference)} to disk`);
  // What has a record was on the disk before it, and documents are from when they have their names.
  const isOnDisk = layers.every(({ key }) => parts.layers.isRecorded(key));
  if (!isOnDisk || behind.hasBegun) await behind.finish();
  crashPoint('pull.synced');
  return {
    id: manifest.config.digest,
    digest: documents.digest,
    config,
    layers,
    content: [
      ...documents.kept.map(({ digest, bytes }) => ({ digest, sizeBytes: bytes.length })),
      ...(parts.keepLayerBlobs ? await keptBlobs(parts, manifest) : []),
    ],
  };
}

async function keptBlobs(parts: PullParts, { layers }: Manifest): Promise<FetchedImage['content']> {
  const here = await Promise.all(layers.map(async layer => ((await parts.content.has(layer.digest)) ? [layer] : [])));
  return here.flat().map(({ digest, sizeBytes }) => ({ digest, sizeBytes }));
}

interface Documents {
  digest: Digest;
  manifest: Manifest;
  config: ImageConfig;
  kept: { digest: Digest; bytes: Buffer }[];
}

async function fetchDocuments(
  parts: PullParts,
  ctx: Context,
  { source, reference, which, platform }: Wanted,
): Promise<Documents> {
  const name = canonicalForm(reference);
  const search: Search = { parts, ctx, source, platform, name, looked: 0, offers: [] };
  const top = await fetchManifest(search, which, undefined);
  const found = await findManifest(search, top, 0);
  if (!found) throw notFor(search.offers, platform, name);
  const { manifest, kept } = found;
  const bytes = await documentOf(parts, manifest.config, () => source.smallBlob(ctx, manifest.config.digest));
  assertDescribed(manifest.config, bytes, `the config of ${name}`);
  const config = parseImageConfig(bytes, manifest.layers.length, platform, `the config of ${name}`);
  return { digest: top.digest, manifest, config, kept: [...kept, { digest: manifest.config.digest, bytes }] };
}

/** What a walk through nested indexes carries along. */
interface Search {
  readonly parts: PullParts;
  readonly ctx: Context;
  readonly source: ImageSource;
  readonly platform: Platform;
  readonly name: string;
  looked: number;
  readonly offers: string[];
}

interface FoundDocument {
  readonly digest: Digest;
  readonly document: ReturnType<typeof parseManifest>;
  readonly bytes: Buffer;
}

/** The first image for the platform, depth first, with the documents that lead to it; undefined when there is none. */
async function findManifest(
  search: Search,
  { digest, document, bytes }: FoundDocument,
  depth: number,
): Promise<{ manifest: Manifest; kept: Documents['kept'] } | undefined> {
  const kept = [{ digest, bytes }];
  if (document.kind === 'manifest') return { manifest: document, kept };
  if (depth === depthMax)
    throw new BerthError('failed_precondition', `the index of ${search.name} nests deeper than ${depthMax} levels`);
  search.offers.push(...offersOf(document));
  for (const entry of candidates(document, search.platform)) {
    const below = await findManifest(search, await fetchManifest(search, entry.digest, entry), depth + 1);
    if (below) return { manifest: below.manifest, kept: [...kept, ...below.kept] };
  }
  return undefined;
}

async function fetchManifest(search: Search, which: string, described: Descriptor | undefined): Promise<FoundDocument> {
  const { parts, ctx, source, name } = search;
  if (search.looked++ === documentsMax)
    throw new BerthError('failed_precondition', `the indexes of ${name} lead to more than ${documentsMax} documents`);
  const { digest, mediaType, bytes } = await source.manifest(ctx, which);
  const what = `the manifest ${isDigest(which) ? which : ''} of ${name}`.replace('  ', ' ');
  if (isDigest(which) && digest !== which)
    throw new BerthError('data_loss', `${what} has digest ${digest}, and ${which} was asked for`);
  if (described) assertDescribed(described, bytes, what);
  if (
    described &&
    mediaType !== undefined &&
    mediaType !== described.mediaType &&
    mediaType.includes('json') &&
    mediaType.startsWith('application/vnd.')
  )
    throw new BerthError(
      'failed_precondition',
      `${what} is malformed: the index calls it ${described.mediaType}, but it was handed over as ${mediaType}`,
    );
  const rules = { allowForeignLayers: parts.allowForeignLayers };
  return { digest, document: parseManifest(bytes, described?.mediaType ?? mediaType, what, rules), bytes };
}

async function documentOf(parts: PullParts, { digest }: Descriptor, fetch: () => Promise<Buffer>): Promise<Buffer> {
  return (await parts.content.read(digest)) ?? (await fetch());
}

/** Throws `data_loss` when the bytes are not what was announced. */
export function assertDescribed({ digest, sizeBytes }: Descriptor, bytes: Buffer, what: string): void {
  if (bytes.length !== sizeBytes)
    throw new BerthError('data_loss', `${what} has ${bytes.length} bytes, and ${sizeBytes} were announced`);
  const found = digestOf(bytes, algorithmOf(digest));
  if (found !== digest) throw new BerthError('data_loss', `${what} has digest ${found}, and ${digest} was announced`);
}

/** Side by side: each waits for the disk. */
async function keepDocuments(parts: PullParts, reference: Reference, kept: Documents['kept']): Promise<void> {
  const all = kept.map(({ digest, bytes }) =>
    parts.content.ingest(digest, bytes.length, bytes, `${digest} of ${canonicalForm(reference)}`),
  );
  await Promise.allSettled(all);
  await Promise.all(all);
}

/* ---- layers ---- */

interface LayerRequest {
  readonly repository: string | undefined;
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly chainId: Digest;
  /** Those below, base first. Awaited only by a layer that needs them. */
  readonly below: readonly Promise<Layer>[];
}

/** All layers side by side. If one fails, the others are given up, unless another pull wants them. */
async function fetchLayers(
  parts: PullParts,
  ctx: Context,
  { source, repository, reference }: Wanted,
  { manifest, config }: Documents,
  pin: (name: string) => void,
  onProgress: OnProgress,
): Promise<Layer[]> {
  const failed = new AbortController();
  const group = Context.of(ctx.log, { signal: anySignal([ctx.signal, failed.signal]) });
  const flights: Promise<Layer>[] = [];
  manifest.layers.forEach((descriptor, i) => {
    const diffIds = config.diffIds.slice(0, i + 1);
    const diffId = diffIds[i];
    if (diffId === undefined) throw new BerthError('internal', 'a layer without a diff id');
    const request = { repository, descriptor, diffId, chainId: chainIdOf(diffIds), below: flights.slice() };
    pin(layerKey(diffId));
    pin(chainKey(request.chainId));
    flights.push(fetchLayer(parts, group, source, request, onProgress));
  });
  let first: Error | undefined;
  for (const flight of flights)
    flight.catch((error: unknown) => {
      first ??= error instanceof Error ? error : new Error(String(error));
      failed.abort();
    });
  const outcomes = await Promise.allSettled(flights);
  ctx.throwIfEnded();
  if (first !== undefined) throw first instanceof BerthError ? named(first, reference) : first;
  return outcomes.flatMap(outcome => (outcome.status === 'fulfilled' ? [outcome.value] : []));
}

function named(error: BerthError, reference: Reference): BerthError {
  const start = `pull ${canonicalForm(reference)}: `;
  return error.message.startsWith('pull ')
    ? error
    : new BerthError(error.kind, start + error.message, { cause: error });
}

async function fetchLayer(
  parts: PullParts,
  ctx: Context,
  source: ImageSource,
  request: LayerRequest,
  onProgress: OnProgress,
): Promise<Layer> {
  const { repository, descriptor, diffId, chainId, below } = request;
  const event = (phase: LayerProgress['phase'], doneBytes: number): LayerProgress => ({
    layer: descriptor.digest,
    phase,
    doneBytes,
    totalBytes: descriptor.sizeBytes,
  });
  const present = async () => {
    const found = parts.layers.find(diffId, chainId);
    return found && (await parts.sound(ctx, found));
  };
  const found = await present();
  if (found) {
    onProgress(event('exists', descriptor.sizeBytes));
    return found;
  }
  onProgress(event('waiting', 0));
  const download = (key: string, where: UnpackRequest['below']) => {
    const name = `${key} ${descriptor.digest} ${below.length === 0}`;
    return joinOrFetch(parts.layerFlights, ctx, name, onProgress, async (own, emit) => {
      const onBytes = (bytes: number) => emit(event('downloading', bytes));
      const attempt = { key, descriptor, diffId, repository, where, onBytes };
      const layer = await parts.blobLocks.run(descriptor.digest, async () => {
        own.throwIfEnded();
        // Another image may have brought it while this one waited, on another chain or as its lowest layer.
        const other = parts.layers.get(key);
        if (other?.state === 'sound') return other;
        return parts.slots.run(own, source, () => unpackBlob(parts, own, source, attempt));
      });
      if (layer !== needsChain) emit(event('done', descriptor.sizeBytes));
      return layer;
    });
  };
  const alone = await download(layerKey(diffId), below.length === 0 ? 'none' : 'unknown');
  if (alone !== needsChain) return alone;
  const lower = parts.layers.lowerDirs(await Promise.all(below));
  const onTop = await download(chainKey(chainId), lower);
  if (onTop === needsChain)
    throw new BerthError('internal', `layer ${descriptor.digest} is right neither alone nor on its chain`);
  return onTop;
}

/**
 * Who comes while others fetch the same layer waits for theirs. They ask a registry of their own, with credentials of
 * their own: what fails there says nothing of the source here, which is asked then. Only a full disk is everybody's.
 */
async function joinOrFetch(
  flights: PullParts['layerFlights'],
  ctx: Context,
  name: string,
  onProgress: OnProgress,
  fetch: (own: Context, emit: OnProgress) => Promise<Layer | typeof needsChain>,
): Promise<Layer | typeof needsChain> {
  for (;;) {
    let isOwn = false;
    try {
      return await flights.join(ctx, name, onProgress, (own, emit) => {
        isOwn = true;
        return fetch(own, emit);
      });
    } catch (error) {
      ctx.throwIfEnded();
      if (isOwn || kindOf(error) === 'resource_exhausted') throw error;
    }
  }
}

/** A layer that no image names. */
interface SingleLayer extends Omit<LayerRequest, 'below' | 'chainId'> {
  /** Those below, base first. */
  readonly below: readonly Layer[];
}

/**
 * Brings one layer and its blob, which is kept. A layer that is here already, with a blob that is here, is that: whoever
 * asked has said what its files are, and the blob is known to hold them.
 */
export async function fetchSingleLayer(
  parts: PullParts,
  ctx: Context,
  source: ImageSource,
  { repository, descriptor, diffId, below }: SingleLayer,
  pin: (name: string) => void,
  onProgress: OnProgress,
): Promise<{ layer: Layer; descriptor: Descriptor }> {
  const keeping = { ...parts, keepLayerBlobs: true };
  const chainId = chainIdOf([...below.map(layer => layer.diffId), diffId]);
  for (const name of [descriptor.digest, layerKey(diffId), chainKey(chainId)]) pin(name);
  const request = { repository, descriptor, diffId, chainId, below: below.map(layer => Promise.resolve(layer)) };
  const layer = await fetchLayer(keeping, ctx, source, request, onProgress);
  const known = await keptBlobOf(parts, layer, pin);
  if (known) return { layer, descriptor: await asItIsHere(parts, known) };
  // It was here without its blob. That the blob asked for holds its files is known once it has been unpacked.
  const own = layer.key === layerKey(diffId);
  const where = own ? (below.length === 0 ? 'none' : 'unknown') : parts.layers.lowerDirs(below);
  const attempt = { key: layer.key, descriptor, diffId, repository, where, onBytes: () => undefined } as const;
  const again = await parts.blobLocks.run(descriptor.digest, () =>
    parts.slots.run(ctx, source, () => unpackBlob(keeping, ctx, source, attempt)),
  );
  if (again === needsChain)
    throw new BerthError('data_loss', `layer ${descriptor.digest} is not the one that is here as ${diffId}`);
  return { layer, descriptor: await asItIsHere(parts, descriptor) };
}

/**
 * A kept blob, on disk, and called what its bytes are: a stranger's manifest may say something else. The layer's record may
 * be from long ago, so that nobody waits for the blob who waits for the layer to be on disk.
 */
async function asItIsHere({ content }: PullParts, { digest, sizeBytes }: Descriptor): Promise<Descriptor> {
  await content.sync(digest);
  await using file = await content.open(digest);
  if (file) return { digest, sizeBytes, mediaType: await layerTypeOf(file) };
  throw new BerthError('internal', `the blob ${digest} is pinned, and it is gone`);
}

async function keptBlobOf(
  { content }: PullParts,
  { blob }: Layer,
  pin: (name: string) => void,
): Promise<Descriptor | undefined> {
  if (!blob) return undefined;
  const { digest, sizeBytes, mediaType } = blob;
  pin(digest);
  return (await content.sizeOf(digest)) === sizeBytes ? { digest, sizeBytes, mediaType } : undefined;
}

/* ---- one blob ---- */

/** A blob that is to become the layer `key`. */
export interface BlobRequest {
  readonly key: string;
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly repository: string | undefined;
  readonly where: UnpackRequest['below'];
  readonly onBytes: (bytes: number) => void;
}

/**
 * Unpacks the blob while it arrives. When the connection breaks it goes on where
 * it was, as long as there is progress. Bytes that are not the blob's are fetched
 * anew where some were here from before, or where somebody else can be asked;
 * whatever else fails is final. A layer of this key that is damaged is replaced.
 */
export async function unpackBlob(
  parts: PullParts,
  ctx: Context,
  source: ImageSource,
  request: BlobRequest,
): Promise<Layer | typeof needsChain> {
  const { digest } = request.descriptor;
  const kept = await fromContent(parts, ctx, request);
  if (kept) return kept;
  let [failures, anew] = [0, 0];
  for (let had = await parts.partials.sizeOf(digest); ;) {
    try {
      return await unpackOnce(parts, ctx, source, request, failures > 0);
    } catch (error) {
      ctx.throwIfEnded();
      if (error instanceof BerthError) {
        if (error.kind !== 'data_loss') throw error;
        // Bytes that were wrong must not be met again. A beginning from before a power cut may be nothing but zeros.
        await parts.partials.remove(digest);
        if (++anew === downloadsMax || (had === 0 && !source.hasOther?.(digest))) throw error;
        ctx.log.warn(`layer ${digest} is fetched anew: ${messageOf(error)}`);
        had = 0;
        continue;
      }
      const have = await parts.partials.sizeOf(digest);
      failures = have > had ? 1 : failures + 1;
      had = have;
      if (failures === downloadsMax)
        throw new BerthError(
          'unavailable',
          `layer ${digest}: the connection broke ${failures} times: ${networkReason(error).reason}`,
          { cause: error, hint: "check the node's network" },
        );
      ctx.log.warn(`layer ${digest}: the connection broke: ${messageOf(error)}; it goes on at byte ${have}`);
    }
  }
}

/** From the kept blob, if it is here and right; if it is not, it is as if it were not here. */
async function fromContent(
  parts: PullParts,
  ctx: Context,
  request: BlobRequest,
): Promise<Layer | typeof needsChain | undefined> {
  const file = await parts.content.open(request.descriptor.digest);
  if (!file) return undefined;
  try {
    return await unpackInto(parts, ctx, request, { offset: 0, from: 'content', file, close: () => file.close() });
  } catch (error) {
    if (!(error instanceof BerthError) || error.kind !== 'data_loss') throw error;
    ctx.log.warn(`the kept blob ${request.descriptor.digest} is damaged and fetched again: ${messageOf(error)}`);
    await parts.content.remove(request.descriptor.digest);
    return undefined;
  }
}

async function unpackOnce(
  parts: PullParts,
  ctx: Context,
  source: ImageSource,
  request: BlobRequest,
  isAgain: boolean,
): Promise<Layer | typeof needsChain> {
  const { digest, sizeBytes } = request.descriptor;
  if (sizeBytes < partialBytesMin && !parts.keepLayerBlobs)
    return unpackInto(parts, ctx, request, await source.blob(ctx, digest, 0));
  const partial = await parts.partials.begin(digest, sizeBytes);
  try {
    // A file that is as long as the blob may be all of it: then nothing is fetched.
    const bytes =
      partial.sizeBytes === sizeBytes ? nothing(sizeBytes) : await source.blob(ctx, digest, partial.sizeBytes);
    // What has broken off once may do so again, and then goes on where it was.
    const mayForget = !isAgain && !parts.keepLayerBlobs && partial.sizeBytes === 0;
    const kept = { blob: partial.file, ...(mayForget && { forgetBlobMs: partialMsMin }) };
    const layer = await unpackInto(parts, ctx, request, bytes, kept);
    if (layer === needsChain) return needsChain; // the bytes are wanted again in a moment
    crashPoint('layer.kept');
    if (parts.keepLayerBlobs) await parts.partials.moveTo(digest, parts.content.pathOf(digest));
    else await parts.partials.remove(digest);
    return layer;
  } finally {
    await partial.close();
  }
}

function nothing(offset: number): BlobBytes {
  const pipeTo = (fd: number) => Promise.resolve(closeSync(fd));
  return { offset, from: 'content', pipeTo, close: () => Promise.resolve() };
}

async function unpackInto(
  parts: PullParts,
  ctx: Context,
  { key, descriptor, diffId, repository, where, onBytes }: BlobRequest,
  bytes: BlobBytes,
  kept: Pick<UnpackRequest, 'blob' | 'forgetBlobMs'> = {},
): Promise<Layer | typeof needsChain> {
  const begun = await beginOrClose(parts, bytes);
  let done = false;
  try {
    crashPoint('layer.begun');
    const manifest = await open(begun.manifestPath, 'wx', 0o600);
    try {
      const request = { layer: descriptor, diffId, dir: begun.dir, below: where, manifest, onBytes, ...kept };
      const result = await unpackLayer(request, bytes, ctx.signal).catch((error: unknown) => {
        if (kindOf(error) === 'data_loss') bytes.distrust?.();
        throw error;
      });
      if (result === needsChain) return needsChain;
      crashPoint('layer.unpacked');
      const { digest, sizeBytes, mediaType } = descriptor;
      const layer = await place(parts, begun, {
        ...{ version: 2, key, diffId, ...result, hasManifest: true, state: 'sound' },
        blob: { digest, sizeBytes, mediaType, repository },
      });
      done = true;
      return layer;
    } finally {
      await manifest.close();
    }
  } finally {
    if (!done) await parts.layers.giveUp(begun);
  }
}

async function beginOrClose(parts: PullParts, bytes: BlobBytes): Promise<Begun> {
  try {
    return await parts.layers.begin();
  } catch (error) {
    await bytes.close();
    throw error;
  }
}

/** A layer that is damaged has a record, which says sound again only once its new files are on disk. */
async function place(parts: PullParts, begun: Begun, record: LayerRecord): Promise<Layer> {
  const present = parts.layers.get(record.key);
  if (!present || present.state === 'sound') return parts.layers.keep(begun, record);
  await syncFileSystem(parts.root);
  crashPoint('heal.synced');
  return parts.layers.replace(begun, record);
}
