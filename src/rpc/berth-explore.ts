import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import {
  ExploreService,
  type ExploreServer,
  type ReadLayersRequest,
  type ReadLayersResponse,
} from '../cri/generated/berth/v1/explore';
import { imageByName } from './berth-images';
import type { BerthParts } from './berth-service';
import { complete, serverStream } from './handler';

/** berth.v1: what is in images. The manifests go out as they are: whoever looks reads them, not the daemon. */
export function exploreService({ log, images }: BerthParts): UntypedServiceImplementation {
  const built = {
    readLayers: serverStream<ReadLayersRequest, ReadLayersResponse>(
      log,
      'ReadLayers',
      async ({ image, layers }, ctx, send) => {
        await images.readManifests(ctx, imageByName(images, image), layers, (layer, piece) => send({ layer, piece }));
      },
    ),
  } satisfies Partial<ExploreServer>;
  return complete(ExploreService, built);
}
