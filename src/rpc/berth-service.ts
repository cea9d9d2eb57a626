import { release } from 'node:os';
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import type { Logger } from '../base/log';
import type { Containers } from '../container/containers';
import type { Names } from '../container/names';
import { BerthService, type BerthServer, type VersionResponse } from '../cri/generated/berth/v1/berth';
import { ContainersService, type ContainersServer } from '../cri/generated/berth/v1/containers';
import type { Images } from '../image/images';
import { nodePlatform } from '../image/platform';
import type { Metrics } from '../metrics/metrics';
import type { Sandboxes } from '../sandbox/sandboxes';
import { attachRpc } from './berth-attach';
import { archiveRpcs } from './berth-archives';
import { checkRpc } from './berth-check';
import { containerRpcs } from './berth-containers';
import { copyRpcs } from './berth-copy';
import { createRpc } from './berth-create';
import { diffRpc } from './berth-diff';
import { execRpc } from './berth-exec';
import { explainRpc } from './berth-explain';
import { imageRpcs } from './berth-images';
import { lifeRpcs } from './berth-life';
import { logRpcs } from './berth-logs';
import { pullRpcs } from './berth-pulls';
import { infoRpc, type InfoConfig } from './berth-info';
import { podRpcs } from './berth-pods';
import { sizesRpc } from './berth-sizes';
import { volumeRpcs } from './berth-volumes';
import { complete, unary } from './handler';

export interface BerthParts {
  log: Logger;
  version: string;
  config: InfoConfig;
  images: Images;
  sandboxes: Sandboxes;
  containers: Containers;
  metrics?: Metrics;
}

/** Put in place of the name when the program is bundled from a checkout. */
declare const BERTH_GIT_COMMIT: string | undefined;

/** berth.v1: what people need and the CRI lacks. */
export function berthService(parts: BerthParts, names: Names): UntypedServiceImplementation {
  const startedAtNs = BigInt(Date.now()) * 1_000_000n;
  const built = {
    version: unary(parts.log, 'Version', () => version(parts.version, startedAtNs)),
    ...imageRpcs(parts),
    ...explainRpc(parts),
    ...pullRpcs(parts),
    ...archiveRpcs(parts),
    ...checkRpc(parts),
    ...createRpc(parts, names),
    ...containerRpcs(parts),
    ...logRpcs(parts),
    ...execRpc(parts),
    ...attachRpc(parts),
  } satisfies Partial<BerthServer>;
  return complete(BerthService, built);
}

/** berth.v1: what people do with containers beyond that. */
export function containersService(parts: BerthParts, names: Names): UntypedServiceImplementation {
  const built = {
    ...lifeRpcs(parts, names),
    ...copyRpcs(parts),
    ...diffRpc(parts),
    ...sizesRpc(parts),
    ...volumeRpcs(parts),
    ...podRpcs(parts),
    ...infoRpc(parts),
  } satisfies Partial<ContainersServer>;
  return complete(ContainersService, built);
}

function version(own: string, startedAtNs: bigint): VersionResponse {
  const { os, architecture } = nodePlatform();
  return {
    version: own,
    gitCommit: typeof BERTH_GIT_COMMIT === 'string' ? BERTH_GIT_COMMIT : '',
    nodeVersion: process.version,
    kernelVersion: release(),
    os,
    arch: architecture,
    startedAtNs,
  };
}
