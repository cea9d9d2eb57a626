import { z } from 'zod';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import { ArchiveSource, blobName } from './archive';
import { ArchiveFiles } from './archive-files';
import { isDigest, type Digest } from './digest';
import { choose, parseArtefact, parseDocument, type ArtefactRules, type Descriptor, type Manifest } from './documents';
import type { Platform } from './platform';
import { assertDescribed } from './pull';
import { parseReference, repositoryForm, wanted, type Reference } from './reference';
import type { ImageSource } from './source';

/** Where something is that is stored like an image and is none: a registry, or an OCI image layout in a directory of the node. */
export type ArtefactPlace =
  | { readonly reference: string }
  /** `which` is a tag or a digest. */
  | { readonly directory: string; readonly which: string };

/** Its documents, checked for what every artefact has; and where its layers are. */
export interface Artefact {
  readonly manifest: Manifest;
  readonly config: Buffer;
  readonly source: ImageSource;
  /** Undefined for a directory. */
  readonly repository: string | undefined;
}

/** The annotation that has the tag (image-spec, annotations.md). */
export const refName = 'org.opencontainers.image.ref.name';

/** Of an index.json. */
export const layoutEntriesMax = 1000;

export const layoutIndexShape = z.looseObject({
  schemaVersion: z.literal(2),
  manifests: z
    .array(
      z.looseObject({
        mediaType: z.string(),
        digest: z.string().refine(isDigest, 'is not a digest'),
        size: z.number().int().nonnegative(),
        annotations: z.record(z.string(), z.string()).nullish(),
      }),
    )
    .max(layoutEntriesMax, `has more than ${layoutEntriesMax} entries`),
});

/** In words. */
export function describePlace(place: ArtefactPlace): string {
  return 'reference' in place ? place.reference : `${place.directory}, ${place.which}`;
}

/** Reads the manifest, of an index the one for `platform`, and the config. Whatever comes is compared with its digest and is no longer than documents may be. */
export async function readArtefact(
  ctx: Context,
  place: ArtefactPlace,
  rules: ArtefactRules,
  platform: Platform,
  registryOf: (reference: Reference) => Promise<ImageSource>,
): Promise<Artefact> {
  const { source, which, repository } = await locate(place, registryOf);
  const what = `the manifest of ${describePlace(place)}`;
  const read = async (name: string, described?: Descriptor) => {
    const { digest, mediaType, bytes } = await source.manifest(ctx, name);
    if (isDigest(name) && digest !== name)
      throw new BerthError('data_loss', `${what} has digest ${digest}, and ${name} was announced`);
    if (described) assertDescribed(described, bytes, what);
    return parseArtefact(bytes, described?.mediaType ?? mediaType, rules, what);
  };
  const found = await read(which);
  const entry = found.kind === 'index' ? choose(found, platform, describePlace(place)) : undefined;
  const manifest = entry ? await read(entry.digest, entry) : found;
  if (manifest.kind === 'index') throw new BerthError('failed_precondition', `${what} is an index of indexes`);
  const config = await source.smallBlob(ctx, manifest.config.digest);
  assertDescribed(manifest.config, config, `the config of ${describePlace(place)}`);
  return { manifest, config, source, repository };
}

async function locate(
  place: ArtefactPlace,
  registryOf: (reference: Reference) => Promise<ImageSource>,
): Promise<{ source: ImageSource; which: string; repository: string | undefined }> {
  if ('reference' in place) {
    const reference = parseReference(place.reference);
    const source = await registryOf(reference);
    return { source, which: wanted(reference), repository: repositoryForm(reference) };
  }
  const { directory, which } = place;
  const files = await ArchiveFiles.open(directory, directory);
  const source = new ArchiveSource(files, new Map(), blobName);
  return { source, which: isDigest(which) ? which : await taggedIn(files, which), repository: undefined };
}

async function taggedIn(files: ArchiveFiles, tag: string): Promise<Digest> {
  const index = parseDocument(layoutIndexShape, await files.document('index.json'), `index.json of ${files.what}`);
  const found = index.manifests.find(({ annotations }) => annotations?.[refName] === tag);
  if (found) return found.digest;
  throw new BerthError('not_found', `${files.what} has nothing that is called ${JSON.stringify(tag)}`);
}
