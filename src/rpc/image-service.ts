import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { BerthError } from '../base/errors';
import type { Logger } from '../base/log';
import {
  ImageServiceService,
  StreamImagesResponse,
  type AuthConfig,
  type FilesystemUsage,
  type ImageFilter,
  type ImageServiceServer,
} from '../cri';
import type { Image, Images, RegistryAuth } from '../image/images';
import { canonicalForm, parseReference } from '../image/reference';
import type { WritableLayers } from '../stats/writable-layers';
import { sendItems } from './batches';
import { complete, serverStream, unary } from './handler';
import { jsonText } from './json';
import { criImage } from './to-cri';

export interface ImageServiceParts {
  log: Logger;
  images: Images;
  /** Where images lie; the file system that ImageFsInfo is about. */
  root: string;
  layers: WritableLayers;
}

type Built = Partial<{ [Name in keyof ImageServiceServer]: ImageServiceServer[Name] }>;

/**
 * The CRI's ImageService. A name means the node's platform alone: an image for another one, which a person has pulled, has
 * no name here, so that the kubelet pulls the right one before it uses the name.
 */
export function imageService({ log, images, root, layers }: ImageServiceParts): UntypedServiceImplementation {
  const built = {
    listImages: unary(log, 'ListImages', ({ filter }) => ({
      images: listed(images, filter).map(image => criImage(image, images.node)),
    })),
    streamImages: serverStream(log, 'StreamImages', async ({ filter }, _ctx, send) => {
      const items = listed(images, filter).map(image => ({ images: [criImage(image, images.node)] }));
      await sendItems(
        send,
        items.map(item => StreamImagesResponse.encode(item).finish()),
      );
    }),
    imageStatus: unary(log, 'ImageStatus', ({ image: spec, verbose }) => {
      const name = named(spec?.image, 'ImageStatus');
      const image = images.find(name, images.node);
      const shown = image && !isDamaged(image) ? criImage(image, images.node) : undefined;
      return { image: shown, info: verbose ? verboseInfo(images, name, image) : {} };
    }),
    pullImage: unary(log, 'PullImage', async ({ image, auth }, ctx) => {
      const credentials = auth && registryAuth(auth);
      const pulled = await images.pull(ctx, named(image?.image, 'PullImage'), {
        askedBy: 'cri',
        runtimeHandler: image?.runtimeHandler ?? '',
        ...(credentials ? { auth: credentials } : {}),
      });
      return { imageRef: pulled.id };
    }),
    removeImage: unary(log, 'RemoveImage', async ({ image }) => {
      await images.remove(named(image?.image, 'RemoveImage'), images.node);
      return {};
    }),
    imageFsInfo: unary(log, 'ImageFsInfo', async () => {
      const own = images.usage();
      const begun = await images.usageOfBeginnings();
      const written = await layers.total();
      return {
        imageFilesystems: [
          filesystem(root, Date.now(), own.usedBytes + begun.usedBytes, own.inodesUsed + begun.inodesUsed),
        ],
        containerFilesystems: [filesystem(root, written.takenAtMs, BigInt(written.bytes), BigInt(written.inodes))],
      };
    }),
  } satisfies Built;
  return complete(ImageServiceService, built);
}

function listed(images: Images, filter: ImageFilter | undefined): Image[] {
  const wanted = filter?.image?.image ?? '';
  if (wanted === '') return images.list();
  const image = images.find(wanted, images.node);
  return image ? [image] : [];
}

/**
 * A layer was found damaged and has not been fetched again, for which the node may have no credentials. The kubelet has: it
 * pulls what is not there, and that brings the layer back.
 */
function isDamaged({ layers }: Image): boolean {
  return layers.some(({ state }) => state === 'damaged');
}

/** For people: what the image is, how its layers are, and how far pulls of the name are. */
function verboseInfo(images: Images, name: string, image: Image | undefined): Record<string, string> {
  const pulls = pullsOf(images, name);
  return {
    ...(image ? { info: jsonText({ id: image.id, imageSpec: image.config, layers: image.layers }) } : {}),
    ...(pulls.length > 0 ? { progress: jsonText(pulls) } : {}),
  };
}

function pullsOf(images: Images, name: string) {
  try {
    return images.book.runningOf(canonicalForm(parseReference(name)));
  } catch {
    return []; // an id is no reference, and nobody pulls one
  }
}

function filesystem(mountpoint: string, takenAtMs: number, bytes: bigint, inodes: bigint): FilesystemUsage {
  return {
    timestamp: BigInt(takenAtMs) * 1_000_000n,
    fsId: { mountpoint },
    usedBytes: { value: bytes },
    inodesUsed: { value: inodes },
  };
}

function named(reference: string | undefined, rpc: string): string {
  if (reference !== undefined && reference !== '') return reference;
  throw new BerthError('invalid_argument', `${rpc} needs an image`);
}

/** Undefined when nothing is given: then the pull is anonymous. */
function registryAuth(auth: AuthConfig): RegistryAuth | undefined {
  const { username, password, auth: encoded, serverAddress, identityToken, registryToken } = auth;
  if ([username, password, encoded, identityToken, registryToken].every(value => value === '')) return undefined;
  return { username, password, auth: encoded, serverAddress, identityToken, registryToken };
}
