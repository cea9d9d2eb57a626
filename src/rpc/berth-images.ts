import { isAbsolute } from 'node:path';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import { hasLabel } from '../base/labels';
import { nearest } from '../config/nearest';
import type { Containers } from '../container/containers';
import type {
  BerthServer,
  Image as BerthImage,
  PullDone,
  PullProgress,
  RemoveImageResponse,
} from '../cri/generated/berth/v1/berth';
import type { Image, Images, OnProgress, PulledImage } from '../image/images';
import { describePlatform, fits, parsePlatform, type Platform } from '../image/platform';
import { digestForm, familiarForm, parseReference, tagForm } from '../image/reference';
import type { BerthParts } from './berth-service';
import { ProgressFeed } from './berth-progress';
import { dockerImage } from './docker-view';
import { serverStream, unary } from './handler';
import { jsonText } from './json';

/** The RPCs about images. What a person fetches is pinned: the kubelet does not collect it. */
export function imageRpcs({ log, images, containers }: BerthParts) {
  return {
    pull: serverStream(log, 'Pull', async ({ image, platform }, ctx, send) => {
      const wanted = platform === '' ? images.node : parsePlatform(platform);
      await send({ done: await pullForPerson(images, ctx, image, wanted, progress => send({ progress })) });
    }),
    import: serverStream(log, 'Import', async ({ path, reference }, ctx, send) => {
      if (!isAbsolute(path))
        throw new BerthError('invalid_argument', `import: the path ${JSON.stringify(path)} is not absolute`);
      const bring = (onProgress: OnProgress) => images.importLayout(ctx, path, reference, onProgress);
      await send({ done: await bringForPerson(images, reference, images.node, progress => send({ progress }), bring) });
    }),
    listImages: unary(log, 'ListImages', ({ labels }) => ({
      images: images
        .list()
        .filter(image => labels.every(label => hasLabel(image.config.labels, label)))
        .map(image => berthImage(image, images.node))
        .sort(byAge),
    })),
    inspectImage: unary(log, 'InspectImage', ({ image }) => ({
      json: jsonText(inspected(imageByName(images, image))),
    })),
    removeImage: unary(log, 'RemoveImage', ({ image, force }) => removeImage(images, containers, image, force)),
    tagImage: unary(log, 'TagImage', async ({ image, reference }) => {
      imageByName(images, image);
      const tag = await images.tag(image, reference);
      for (const { id } of images.findAll(tag)) await images.setPinned(id, true);
      return { reference: tag };
    }),
    pruneImages: unary(log, 'PruneImages', async ({ all }) => {
      const ids = unused(images, containers)
        .filter(({ tags }) => all || tags.length === 0)
        .map(({ id }) => id);
      const { untagged, freedBytes } = await images.prune(ids);
      return { untagged, deleted: ids, freedBytes };
    }),
    imageUsage: unary(log, 'ImageUsage', () => {
      const { usedBytes, inodesUsed } = images.usage();
      const unusedBytes = bytesOnlyOf(images, unused(images, containers));
      return { usedBytes, inodes: inodesUsed, images: BigInt(images.list().length), unusedBytes };
    }),
  } satisfies Partial<BerthServer>;
}

/** Fetches an image and tells how far it is. */
export async function pullForPerson(
  images: Images,
  ctx: Context,
  reference: string,
  platform: Platform,
  send: (progress: PullProgress) => Promise<void>,
): Promise<PullDone> {
  return bringForPerson(images, reference, platform, send, onProgress =>
    images.pull(ctx, reference, { onProgress, askedBy: 'person', platform }),
  );
}

async function bringForPerson(
  images: Images,
  text: string,
  platform: Platform,
  send: (progress: PullProgress) => Promise<void>,
  bring: (onProgress: OnProgress) => Promise<PulledImage>,
): Promise<PullDone> {
  const reference = parseReference(text);
  const before = images.find(text, platform)?.id;
  const feed = new ProgressFeed(send);
  let image: PulledImage;
  try {
    image = await bring(feed.take);
  } finally {
    await feed.end();
  }
  await images.setPinned(image.id, true);
  return {
    imageId: image.id,
    digest: image.digest,
    reference: tagForm(reference) ?? digestForm(reference, image.digest),
    changed: before !== image.id,
  };
}

/** The image that a person means; `not_found`, with the nearest name, when there is none. */
export function imageByName(images: Images, text: string): Image {
  if (text === '') throw new BerthError('invalid_argument', 'no image is named');
  const image = images.find(text);
  if (image) return image;
  const near = nearName(images, text);
  throw new BerthError('not_found', `no image is called ${JSON.stringify(text)}`, {
    hint: near === undefined ? 'berth images lists those that are here' : `did you mean ${near}?`,
  });
}

/** Another tag of the same repository, else the name that is nearest, as people write it. */
function nearName(images: Images, text: string): string | undefined {
  const tags = images.list().flatMap(image => image.tags.map(tag => familiarForm(parseReference(tag))));
  const repository = (name: string) => name.replace(/@.*$/, '').replace(/:[^/:]*$/, '');
  const same = tags.filter(tag => repository(tag) === repository(text));
  const candidates = same.length > 0 ? same : tags;
  return nearest(text.includes(':') ? text : `${text}:latest`, candidates) ?? same[0];
}

/** Those that no container was made of. */
function unused(images: Images, containers: Containers): Image[] {
  const used = new Set<string>(containers.list().map(({ record }) => record.imageId));
  return images.list().filter(({ id }) => !used.has(id));
}

/** What the layers take that no other image has. */
function bytesOnlyOf(images: Images, some: readonly Image[]): bigint {
  const ids = new Set(some.map(({ id }) => id));
  const others = images.list().filter(({ id }) => !ids.has(id));
  const shared = new Set(others.flatMap(({ layers }) => layers.map(({ key }) => key)));
  const own = new Map(some.flatMap(({ layers }) => layers.map(({ key, sizeBytes }) => [key, sizeBytes] as const)));
  return [...own].reduce((sum, [key, bytes]) => sum + (shared.has(key) ? 0n : BigInt(bytes)), 0n);
}

/**
 * Takes a name away, from the images for all platforms that have it; of one that is named otherwise all names. With its
 * last name goes the image, unless a container needs it.
 */
async function removeImage(
  images: Images,
  containers: Containers,
  text: string,
  force: boolean,
): Promise<RemoveImageResponse> {
  const image = imageByName(images, text);
  const tag = tagOf(image, text);
  const going = tag === undefined ? [image] : images.findAll(tag).filter(({ tags }) => tags.length === 1);
  if (!force) for (const one of going) refuseRemoval(containers, one, text);
  if (tag === undefined) await images.remove(image.id);
  else await images.untag(tag);
  const names = tag === undefined ? image.tags : [tag];
  const digests = going.flatMap(one => one.digests);
  return { untagged: [...new Set([...names, ...digests])], deleted: going.map(({ id }) => id) };
}

function refuseRemoval(containers: Containers, image: Image, text: string): void {
  const users = containers.list().filter(({ record }) => record.imageId === image.id);
  const [user] = users;
  if (user) {
    const more = users.length === 1 ? '' : ` and ${users.length - 1} more`;
    throw new BerthError(
      'failed_precondition',
      `image ${text} is used by container ${user.record.name ?? user.record.id.slice(0, 12)}${more}`,
      { hint: 'remove the container first, or force it' },
    );
  }
  if (image.tags.length > 1) {
    throw new BerthError('failed_precondition', `image ${text} has several names: ${image.tags.join(', ')}`, {
      hint: 'remove them one by one, or force it',
    });
  }
}

/** The image's tag that `text` is; undefined for an id or a digest. */
function tagOf(image: Image, text: string): string | undefined {
  try {
    const tag = tagForm(parseReference(text));
    return image.tags.find(other => other === tag);
  } catch {
    return undefined; // ids are no references
  }
}

function berthImage({ id, tags, digests, sizeBytes, config }: Image, node: Platform): BerthImage {
  return {
    ...{ id, repoTags: [...tags], repoDigests: [...digests], sizeBytes, createdAtNs: config.createdNs ?? 0n },
    ...{ platform: describePlatform(config), isForeign: !fits(config, node) },
  };
}

function byAge(a: BerthImage, b: BerthImage): number {
  return a.createdAtNs === b.createdAtNs ? 0 : a.createdAtNs < b.createdAtNs ? 1 : -1;
}

function inspected(image: Image): object {
  const { id, tags, digests, sizeBytes, pinned, config, layers } = image;
  const { createdNs, diffIds: _, ...rest } = config;
  return {
    ...dockerImage(image),
    id,
    tags,
    digests,
    sizeBytes,
    createdAtNs: createdNs ?? 0n,
    pinned,
    config: rest,
    layers: layers.map(({ diffId, sizeBytes: bytes, dir }) => ({ diffId, sizeBytes: bytes, dir })),
  };
}
