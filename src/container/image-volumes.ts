import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { Mount } from '../cri';
import type { Image } from '../image/images';
import { isImageMount } from '../oci/mounts';
import type { Containers } from './containers';

/** An image that is mounted in a container as a volume, as it is recorded. */
export interface ImageVolume {
  /** As the request writes it. */
  containerPath: string;
  imageId: string;
}

/**
 * The images of a request's image volumes, with their layers in order, by the name that the request uses. Throws
 * `not_found` for one that is not on the node.
 */
export async function volumeImages(
  containers: Containers,
  ctx: Context,
  mounts: readonly Mount[],
): Promise<ReadonlyMap<string, Image>> {
  const names = new Set(mounts.filter(isImageMount).map(mount => mount.image?.image ?? ''));
  const found = [...names].map(name => [name, imageNamed(containers, name)] as const);
  for (const [name, image] of found) {
    ctx.stage(`verify the layers of image volume ${name}`);
    await containers.images.ready(ctx, image);
  }
  return new Map(found);
}

function imageNamed({ images }: Containers, name: string): Image {
  const image = images.find(name, images.node);
  if (!image) {
    throw new BerthError('not_found', `image volume ${name} is not on this node`, { hint: 'pull it first' });
  }
  if (image.layers.length > 0) return image;
  throw new BerthError('failed_precondition', `image volume ${name} has no files: the image has no layers`);
}

/** What the record keeps of them: also for the status. */
export function imageVolumes(mounts: readonly Mount[], images: ReadonlyMap<string, Image>): ImageVolume[] {
  return mounts.filter(isImageMount).flatMap(({ containerPath, image }) => {
    const found = images.get(image?.image ?? '');
    return found ? [{ containerPath, imageId: found.id }] : [];
  });
}
