import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { BerthError } from '../base/errors';
import { readArchive, type ArchiveImage } from './archive';
import { ArchiveFiles } from './archive-files';
import { spool, type Chunks, type Incoming } from './incoming';
import type { Platform } from './platform';
import { parseReference, tagForm, type Reference } from './reference';
import { unpackArchive } from './unpack/archive';
import { mkdir } from 'node:fs/promises';

export interface LoadRequest {
  /** The archive: a directory of the node, or its tar in pieces. */
  readonly from: { readonly directory: string } | { readonly chunks: Chunks };
  /** For messages: as the person calls it. */
  readonly what: string;
  /** Instead of the names that the archive has, for the only image in it. */
  readonly name?: string;
}

/**
 * Hands the images of an archive over, one after the other. An archive is
 * hostile: its tar is unpacked by the confined program that unpacks layers, into
 * a directory that is removed afterwards; its documents are read whole before the
 * first image is taken, so that what is refused for them leaves nothing.
 */
export async function loadArchive(
  ctx: Context,
  incoming: Incoming,
  node: Platform,
  { from, what, name }: LoadRequest,
  take: (image: ArchiveImage) => Promise<void>,
): Promise<void> {
  const reference = name === undefined ? undefined : givenName(name);
  await incoming.during(async dir => {
    const files = 'directory' in from ? from.directory : await unpacked(ctx, dir, from.chunks, what);
    ctx.stage(`read what ${what} holds`);
    const images = await readArchive(await ArchiveFiles.open(files, what), node);
    for (const image of named(images, reference, what)) await take(image);
  });
}

async function unpacked(ctx: Context, dir: string, chunks: Chunks, what: string): Promise<string> {
  ctx.stage(`receive ${what}`);
  const archive = await spool(ctx, chunks, join(dir, 'archive'), what);
  crashPoint('load.received');
  ctx.stage(`unpack ${what}`);
  const files = join(dir, 'files');
  await mkdir(files, { mode: 0o700 });
  await unpackArchive({ ...archive }, files, what, ctx.signal);
  crashPoint('load.unpacked');
  await rm(archive.path); // the space is wanted for the layers
  return files;
}

function named(images: ArchiveImage[], name: Reference | undefined, what: string): ArchiveImage[] {
  if (name === undefined) return images;
  if (new Set(images.map(({ digest }) => digest)).size === 1) return images.map(image => ({ ...image, names: [name] }));
  throw new BerthError('invalid_argument', `${what} holds ${images.length} images, and only one can get a name`, {
    hint: 'leave the name out: they have the names that the archive gives them',
  });
}

/** A name that a person gives to an image here: a tag, since a digest is nothing that one can choose. */
export function givenName(text: string): Reference {
  const reference = parseReference(text);
  if (tagForm(reference) !== undefined) return reference;
  throw new BerthError('invalid_argument', `an image is given a tag, and ${text} is a digest`, {
    hint: 'names look like registry.example/app:1',
  });
}
