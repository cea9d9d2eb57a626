import type { FileHandle } from 'node:fs/promises';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { Digest } from './digest';
import type { Descriptor } from './documents';
import { documentsOf, LayerBlobs, type Bundle, type Exported, type ExportParts, type Saved } from './exported';
import { canonicalForm, parseReference, type Reference } from './reference';
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
  /** Of the manifest, or of the index. */
  readonly bytes: number;
}

/** Blobs on their way to a registry at a time. */
export const PARALLEL = 4;

/**
 * Brings an image to a registry, or an index with its images, under the tag of `target`: what the registry has is not sent
 * again, what it has in another repository is taken over from there, and the manifests are sent last, that of the index
 * after the others, as they are here to the last byte.
 */
export async function pushImage(
  parts: ExportParts,
  ctx: Context,
  bundle: Bundle,
  target: Reference,
  uploads: Uploads,
  dir: string,
  onProgress: (event: PushProgress) => void,
): Promise<PushedImage> {
  const name = canonicalForm(target);
  if (target.tag === undefined) throw new BerthError('invalid_argument', `push ${name}: an image is pushed to a tag`);
  const images = await Promise.all(bundle.images.map(saved => documentsOf(parts.content, saved, 'push')));
  await using blobs = new LayerBlobs(parts, dir, 'push', () => undefined);
  const slots = new Slots(PARALLEL);
  const layers = new Map(images.flatMap(image => image.layers.map(layer => [layer.digest, { layer, image }])));
  const report = (layer: Descriptor, phase: PushProgress['phase'], doneBytes: number) =>
    onProgress({ layer: layer.digest, phase, doneBytes, totalBytes: layer.sizeBytes });
  for (const { layer } of layers.values()) report(layer, 'waiting', 0);
  ctx.stage(`push the layers of ${name}`);
  await allOrFirst(
    [...layers.values()].map(({ layer, image: { saved } }) => {
      const siblings = siblingRepositories(saved, target);
      return slots.run(ctx, slots, () =>
        pushLayer(ctx, { layer, saved, siblings, uploads, blobs }, (...at) => report(layer, ...at)),
      );
    }),
  );
  ctx.stage(`push the config and the manifest of ${name}`);
  for (const image of images)
    if (!(await uploads.has(ctx, image.config.digest))) await uploadConfig(ctx, uploads, image, parts);
  const manifests = images.map(({ manifest }) => manifest);
  if (bundle.index) {
    for (const manifest of manifests) await pushManifest(ctx, uploads, manifest.digest, manifest, name);
    manifests.push(bundle.index);
  }
  const last = manifests.at(-1);
  if (!last) throw new BerthError('internal', `push ${name}: there is no image`);
  await pushManifest(ctx, uploads, target.tag, last, name);
  return { digest: last.digest, bytes: last.bytes.length };
}

/** `to` is a tag or the digest. */
async function pushManifest(
  ctx: Context,
  uploads: Uploads,
  to: string,
  manifest: Exported['manifest'],
  name: string,
): Promise<void> {
  const digest = await uploads.manifest(ctx, { name: to, ...manifest });
  if (digest === undefined || digest === manifest.digest) return;
  throw new BerthError(
    'data_loss',
    `push ${name}: the registry has the manifest as ${digest}, and it is ${manifest.digest}`,
  );
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
