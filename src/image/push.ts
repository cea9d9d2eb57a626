import type { FileHandle } from 'node:fs/promises';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { Digest } from './digest';
import type { Descriptor } from './documents';
import { documentsOf, LayerBlobs, nameOf, type Exported, type ExportParts, type Saved } from './exported';
import { parseReference, type Reference } from './reference';
import { Uploads } from './registry/uploads';
import { Slots } from './slots';

/** How far a layer is on its way to a registry. */
export interface PushProgress {
  readonly layer: Digest;
  /** `fetching`: the node has not kept it as registries have it, and gets it from where it came from. */
  readonly phase: 'waiting' | 'fetching' | 'uploading' | 'pushed' | 'exists' | 'mounted';
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** What the registry has now. */
export interface PushedImage {
  readonly digest: Digest;
  /** Of the manifest. */
  readonly bytes: number;
}

/** Blobs on their way to a registry at a time. */
export const PARALLEL = 4;

/**
 * Brings an image to a registry, under the one tag of `saved`: what the registry has is not sent again, what it has in
 * another repository is taken over from there, and the manifest is sent last, as it is here to the last byte.
 */
export async function pushImage(
  parts: ExportParts,
  ctx: Context,
  saved: Saved,
  target: Reference,
  uploads: Uploads,
  dir: string,
  onProgress: (event: PushProgress) => void,
): Promise<PushedImage> {
  const name = nameOf(saved);
  if (target.tag === undefined) throw new BerthError('invalid_argument', `push ${name}: an image is pushed to a tag`);
  const image = await documentsOf(parts.content, saved, 'push');
  await using blobs = new LayerBlobs(parts, dir, 'push', () => undefined);
  const slots = new Slots(PARALLEL);
  const layers = image.layers.filter((layer, i) => image.layers.findIndex(l => l.digest === layer.digest) === i);
  const report = (layer: Descriptor, phase: PushProgress['phase'], doneBytes: number) =>
    onProgress({ layer: layer.digest, phase, doneBytes, totalBytes: layer.sizeBytes });
  for (const layer of layers) report(layer, 'waiting', 0);
  const siblings = siblingRepositories(saved, target);
  ctx.stage(`push the layers of ${name}`);
  await allOrFirst(
    layers.map(layer =>
      slots.run(ctx, () => pushLayer(ctx, { layer, saved, siblings, uploads, blobs }, (...at) => report(layer, ...at))),
    ),
  );
  ctx.stage(`push the config and the manifest of ${name}`);
  if (!(await uploads.has(ctx, image.config.digest))) await uploadConfig(ctx, uploads, image, parts);
  const { manifest } = image;
  const digest = await uploads.manifest(ctx, { name: target.tag, ...manifest });
  if (digest !== undefined && digest !== manifest.digest) {
    throw new BerthError(
      'data_loss',
      `push ${name}: the registry has the manifest as ${digest}, and it is ${manifest.digest}`,
    );
  }
  return { digest: manifest.digest, bytes: manifest.bytes.length };
}

interface LayerPush {
  layer: Descriptor;
  saved: Saved;
  siblings: readonly string[];
  uploads: Uploads;
  blobs: LayerBlobs;
}

async function pushLayer(
  ctx: Context,
  { layer, saved, siblings, uploads, blobs }: LayerPush,
  report: (phase: PushProgress['phase'], doneBytes: number) => void,
): Promise<void> {
  const { digest, sizeBytes } = layer;
  if (await uploads.has(ctx, digest)) return report('exists', sizeBytes);
  for (const repository of siblings) {
    if (await uploads.mount(ctx, digest, repository)) return report('mounted', sizeBytes);
  }
  report('fetching', 0);
  await blobs.bring(ctx, saved, [layer]);
  const file: FileHandle = blobs.file(digest);
  report('uploading', 0);
  await uploads.upload(ctx, { digest, bytes: sizeBytes, fd: file.fd }, done => report('uploading', done));
  report('pushed', sizeBytes);
}

async function uploadConfig(
  ctx: Context,
  uploads: Uploads,
  { config }: Exported,
  { content }: ExportParts,
): Promise<void> {
  const file = await content.open(config.digest);
  if (!file) throw new BerthError('data_loss', `the config ${config.digest} is not in the store any more`);
  try {
    await uploads.upload(ctx, { digest: config.digest, bytes: config.bytes.length, fd: file.fd }, () => undefined);
  } finally {
    await file.close();
  }
}

/** Repositories of the same registry that have had the image. */
function siblingRepositories({ record: { digests } }: Saved, target: Reference): string[] {
  const known = digests.map(text => parseReference(text));
  const same = known.filter(({ host, repository }) => host === target.host && repository !== target.repository);
  return [...new Set(same.map(({ repository }) => repository))];
}

/** Waits for all, so that nothing uses what is closed next; then throws the first failure. */
export async function allOrFirst(works: readonly Promise<void>[]): Promise<void> {
  await Promise.allSettled(works);
  await Promise.all(works);
}
