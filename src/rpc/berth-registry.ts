import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { BerthError } from '../base/errors';
import {
  LayerPush_Phase as Phase,
  RegistryService,
  type LayerPush,
  type PushRequest,
  type PushResponse,
  type RegistryServer,
} from '../cri/generated/berth/v1/registry';
import type { PushProgress } from '../image/images';
import { parsePlatform } from '../image/platform';
import { LayerFeed } from './berth-progress';
import type { BerthParts } from './berth-service';
import { complete, serverStream, unary } from './handler';

/** berth.v1: registries, for people. */
export function registryService({ log, images }: BerthParts): UntypedServiceImplementation {
  const built = {
    push: serverStream<PushRequest, PushResponse>(log, 'Push', async ({ image, platform }, ctx, send) => {
      if (image === '') throw new BerthError('invalid_argument', 'no image is named');
      const only = platform === '' ? undefined : parsePlatform(platform);
      await using feed = new LayerFeed(layerPush, progress => send({ progress }));
      const { digest, bytes, ...pushed } = await images.push(ctx, image, undefined, feed.take, only);
      await feed.end();
      await send({ done: { digest, sizeBytes: BigInt(bytes), ...pushed } });
    }),
    login: unary(log, 'Login', async ({ server, username, password }, ctx) => {
      if (username === '') throw new BerthError('invalid_argument', 'log in: there is no user name');
      return { keptIn: await images.login(ctx, server, { username, password }) };
    }),
    logout: unary(log, 'Logout', async ({ server }) => ({ wasKept: await images.logout(server) })),
  } satisfies Partial<RegistryServer>;
  return complete(RegistryService, built);
}

function layerPush({ layer, phase, doneBytes, totalBytes }: PushProgress): LayerPush {
  return { digest: layer, phase: PHASES[phase], doneBytes: BigInt(doneBytes), totalBytes: BigInt(totalBytes) };
}

const PHASES: Readonly<Record<PushProgress['phase'], Phase>> = {
  waiting: Phase.WAITING,
  fetching: Phase.FETCHING,
  uploading: Phase.UPLOADING,
  pushed: Phase.PUSHED,
  exists: Phase.EXISTS,
  mounted: Phase.MOUNTED,
};
