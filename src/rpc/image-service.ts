import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { BerthError } from '../base/errors';
import type { Logger } from '../base/log';
import { ImageServiceService, type AuthConfig, type ImageServiceServer } from '../cri';
import type { Images, RegistryAuth } from '../image/images';
import { complete, unary } from './handler';
import { jsonText } from './json';
import { criImage } from './to-cri';

export interface ImageServiceParts {
  log: Logger;
  images: Images;
  /** Where images lie; the file system that ImageFsInfo is about. */
  root: string;
}

type Built = Partial<{ [Name in keyof ImageServiceServer]: ImageServiceServer[Name] }>;

/** The CRI's ImageService. */
export function imageService({ log, images, root }: ImageServiceParts): UntypedServiceImplementation {
  const built = {
    listImages: unary(log, 'ListImages', ({ filter }) => {
      const wanted = filter?.image?.image ?? '';
      if (wanted === '') return { images: images.list().map(criImage) };
      const image = images.find(wanted);
      return { images: image ? [criImage(image)] : [] };
    }),
    imageStatus: unary(log, 'ImageStatus', ({ image: spec, verbose }) => {
      const image = images.find(named(spec?.image, 'ImageStatus'));
      const info: Record<string, string> =
        image && verbose ? { info: jsonText({ id: image.id, imageSpec: image.config, layers: image.layers }) } : {};
      return { image: image && criImage(image), info };
    }),
    pullImage: unary(log, 'PullImage', async ({ image, auth }, ctx) => {
      const credentials = auth && registryAuth(auth);
      const pulled = await images.pull(ctx, named(image?.image, 'PullImage'), {
        askedBy: 'cri',
        ...(credentials ? { auth: credentials } : {}),
      });
      return { imageRef: pulled.id };
    }),
    removeImage: unary(log, 'RemoveImage', async ({ image }) => {
      await images.remove(named(image?.image, 'RemoveImage'));
      return {};
    }),
    imageFsInfo: unary(log, 'ImageFsInfo', () => {
      const { usedBytes, inodesUsed } = images.usage();
      const usage = {
        timestamp: BigInt(Date.now()) * 1_000_000n,
        fsId: { mountpoint: root },
        usedBytes: { value: usedBytes },
        inodesUsed: { value: inodesUsed },
      };
      return { imageFilesystems: [usage], containerFilesystems: [usage] };
    }),
  } satisfies Built;
  return complete(ImageServiceService, built);
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
