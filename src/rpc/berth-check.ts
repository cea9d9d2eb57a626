import type {
  BerthServer,
  CheckFinding,
  CheckImagesRequest,
  CheckImagesResponse,
  CheckSummary as BerthSummary,
} from '../cri/generated/berth/v1/berth';
import type { CheckSummary, Finding } from '../image/check';
import type { BerthParts } from './berth-service';
import { serverStream } from './handler';

/** CheckImages: the images' own check, told as it goes. */
export function checkRpc({ log, images, metrics }: BerthParts) {
  return {
    checkImages: serverStream<CheckImagesRequest, CheckImagesResponse>(
      log,
      'CheckImages',
      async ({ repair }, ctx, send) => {
        for await (const event of images.check(ctx, { repair })) {
          if (event.type === 'progress') {
            await send({ progress: { done: BigInt(event.done), total: BigInt(event.total) } });
          } else if (event.type === 'finding') {
            metrics?.verifyFinding(event.finding.kind);
            await send({ finding: checkFinding(event.finding) });
          } else await send({ summary: checkSummary(event.summary) });
        }
        ctx.throwIfEnded();
      },
    ),
  } satisfies Partial<BerthServer>;
}

function checkFinding({ images, sizeBytes, repairError, ...rest }: Finding): CheckFinding {
  return { ...rest, images: [...images], sizeBytes: BigInt(sizeBytes), repairError: repairError ?? '' };
}

function checkSummary({ layers, blobs, findings, repaired, usedBytes }: CheckSummary): BerthSummary {
  const [layerCount, blobCount] = [BigInt(layers), BigInt(blobs)];
  return { layers: layerCount, blobs: blobCount, findings: BigInt(findings), repaired: BigInt(repaired), usedBytes };
}
