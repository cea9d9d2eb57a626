import { Context } from '../base/context';
import { BerthError, messageOf } from '../base/errors';
import { streamOf } from './blob-stream';
import type { Content } from './content/content';
import { chainIdOf, digestOf, isDigest, type Digest } from './digest';
import { choose, parseImageConfig, parseManifest, type Descriptor, type ImageConfig, type Manifest } from './documents';
import type { Platform } from './platform';
import { canonicalForm, type Reference } from './reference';
import { networkReason } from './registry/client';
import type { SharedFlight } from './shared-flight';
import type { Slots } from './slots';
import { chainKey, layerKey, type Layer, type Layers } from './snapshot/layers';
import type { ImageSource } from './source';
import { needsChain, syncFileSystem, unpackLayer, type UnpackRequest } from './unpack/unpack';

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
  readonly layers: Layers;
  readonly layerFlights: SharedFlight<Layer | typeof needsChain, LayerProgress>;
  readonly slots: Slots;
  readonly platform: Platform;
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

const downloadsMax = 3;

/**
 * Brings an image here: its documents, then its layers side by side, each
 * unpacked while it arrives, then one sync for all. It hands to `pin` what must
 * not be collected before the record is written.
 */
export async function fetchImage(
  parts: PullParts,
  ctx: Context,
  source: ImageSource,
  reference: Reference,
  which: string,
  pin: (name: string) => void,
  onProgress: OnProgress,
): Promise<FetchedImage> {
  ctx.stage(`read the manifest of ${canonicalForm(reference)}`);
  const documents = await fetchDocuments(parts, ctx, source, reference, which);
  const { manifest, config } = documents;
  for (const { digest } of documents.kept) pin(digest);
  await keepDocuments(parts, reference, documents.kept);

  ctx.stage(`fetch the layers of ${canonicalForm(reference)}`);
  const layers = await fetchLayers(parts, ctx, source, reference, manifest, config, pin, onProgress);

  ctx.stage(`write ${canonicalForm(reference)} to disk`);
  await syncFileSystem(parts.root);
  return {
    id: manifest.config.digest,
    digest: documents.digest,
    config,
    layers,
    content: documents.kept.map(({ digest, bytes }) => ({ digest, sizeBytes: bytes.length })),
  };
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
  source: ImageSource,
  reference: Reference,
  which: string,
): Promise<Documents> {
  const name = canonicalForm(reference);
  const kept: Documents['kept'] = [];
  let found = await fetchManifest(ctx, source, which, undefined, name, kept);
  const top = found.digest;
  for (let depth = 0; found.manifest.kind === 'index'; depth++) {
    if (depth > 1) throw new BerthError('failed_precondition', `the index of ${name} nests deeper than one level`);
    const entry = choose(found.manifest, parts.platform, name);
    found = await fetchManifest(ctx, source, entry.digest, entry, name, kept);
  }
  const { manifest } = found;
  const bytes = await documentOf(parts, manifest.config, () => source.smallBlob(ctx, manifest.config.digest));
  assertDescribed(manifest.config, bytes, `the config of ${name}`);
  const config = parseImageConfig(bytes, manifest.layers.length, parts.platform, `the config of ${name}`);
  kept.push({ digest: manifest.config.digest, bytes });
  return { digest: top, manifest, config, kept };
}

async function fetchManifest(
  ctx: Context,
  source: ImageSource,
  which: string,
  described: Descriptor | undefined,
  name: string,
  kept: Documents['kept'],
): Promise<{ digest: Digest; manifest: ReturnType<typeof parseManifest> }> {
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
  const manifest = parseManifest(bytes, described?.mediaType ?? mediaType, what);
  kept.push({ digest, bytes });
  return { digest, manifest };
}

async function documentOf(parts: PullParts, { digest }: Descriptor, fetch: () => Promise<Buffer>): Promise<Buffer> {
  return (await parts.content.read(digest)) ?? (await fetch());
}

function assertDescribed({ digest, sizeBytes }: Descriptor, bytes: Buffer, what: string): void {
  if (bytes.length !== sizeBytes)
    throw new BerthError('data_loss', `${what} has ${bytes.length} bytes, and ${sizeBytes} were announced`);
  const found = digestOf(bytes, digest.startsWith('sha256') ? 'sha256' : 'sha512');
  if (found !== digest) throw new BerthError('data_loss', `${what} has digest ${found}, and ${digest} was announced`);
}

async function keepDocuments(parts: PullParts, reference: Reference, kept: Documents['kept']): Promise<void> {
  for (const { digest, bytes } of kept)
    await parts.content.ingest(digest, bytes.length, bytes, `${digest} of ${canonicalForm(reference)}`);
}

/* ---- layers ---- */

interface LayerRequest {
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
  source: ImageSource,
  reference: Reference,
  manifest: Manifest,
  config: ImageConfig,
  pin: (name: string) => void,
  onProgress: OnProgress,
): Promise<Layer[]> {
  const failed = new AbortController();
  const group = Context.of(ctx.log, { signal: AbortSignal.any([ctx.signal, failed.signal]) });
  const flights: Promise<Layer>[] = [];
  manifest.layers.forEach((descriptor, i) => {
    const diffIds = config.diffIds.slice(0, i + 1);
    const diffId = diffIds[i];
    if (diffId === undefined) throw new BerthError('internal', 'a layer without a diff id');
    const request = { descriptor, diffId, chainId: chainIdOf(diffIds), below: flights.slice() };
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
  const { descriptor, diffId, chainId, below } = request;
  const event = (phase: LayerProgress['phase'], doneBytes: number): LayerProgress => ({
    layer: descriptor.digest,
    phase,
    doneBytes,
    totalBytes: descriptor.sizeBytes,
  });
  const found = parts.layers.find(diffId, chainId);
  if (found) {
    onProgress(event('exists', descriptor.sizeBytes));
    return found;
  }
  onProgress(event('waiting', 0));
  const download = (key: string, where: UnpackRequest['below']) =>
    parts.layerFlights.join(ctx, `${key} ${descriptor.digest} ${below.length === 0}`, onProgress, async (own, emit) => {
      const onBytes = (bytes: number) => emit(event('downloading', bytes));
      const layer = await parts.slots.run(own, () =>
        unpackAttempts(parts, own, source, { key, descriptor, diffId, where, onBytes }),
      );
      if (layer !== needsChain) emit(event('done', descriptor.sizeBytes));
      return layer;
    });
  const alone = await download(layerKey(diffId), below.length === 0 ? 'none' : 'unknown');
  if (alone !== needsChain) return alone;
  const lower = parts.layers.lowerDirs(await Promise.all(below));
  const onTop = await download(chainKey(chainId), lower);
  if (onTop === needsChain)
    throw new BerthError('internal', `layer ${descriptor.digest} is right neither alone nor on its chain`);
  return onTop;
}

interface Attempt {
  readonly key: string;
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly where: UnpackRequest['below'];
  readonly onBytes: (bytes: number) => void;
}

/** Downloads again when the connection breaks; whatever else fails is final. */
async function unpackAttempts(
  parts: PullParts,
  ctx: Context,
  source: ImageSource,
  attempt: Attempt,
): Promise<Layer | typeof needsChain> {
  for (let i = 1; ; i++) {
    try {
      return await unpackOnce(parts, ctx, source, attempt);
    } catch (error) {
      ctx.throwIfEnded();
      if (error instanceof BerthError) throw error;
      const why = networkReason(error).reason;
      if (i === downloadsMax)
        throw new BerthError(
          'unavailable',
          `layer ${attempt.descriptor.digest}: the connection broke ${i} times: ${why}`,
          {
            cause: error,
            hint: "check the node's network",
          },
        );
      ctx.log.warn(
        `layer ${attempt.descriptor.digest}: the connection broke: ${messageOf(error)}; it is fetched again`,
      );
    }
  }
}

async function unpackOnce(
  parts: PullParts,
  ctx: Context,
  source: ImageSource,
  { key, descriptor, diffId, where, onBytes }: Attempt,
): Promise<Layer | typeof needsChain> {
  const bytes = streamOf(await source.blob(ctx, descriptor.digest, 0), ctx.signal);
  const dir = await parts.layers.begin();
  let done = false;
  try {
    const result = await unpackLayer({ layer: descriptor, diffId, dir, below: where, onBytes }, bytes, ctx.signal);
    if (result === needsChain) return needsChain;
    const layer = await parts.layers.keep(dir, { version: 1, key, diffId, ...result });
    done = true;
    return layer;
  } finally {
    if (!done) parts.layers.giveUp(dir);
  }
}
