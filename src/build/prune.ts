import type { BuildParts } from './steps';

/** Forgets the results of all steps; what no image and no container needs goes with them. */
export async function pruneBuildCache(
  { cache, cacheMounts, images }: BuildParts,
  withMounts: boolean,
): Promise<{ steps: bigint; freedBytes: bigint }> {
  const before = images.usage().usedBytes;
  const records = cache.list();
  for (const record of records) await cache.forget(record);
  await images.collect('all');
  if (withMounts) await cacheMounts.removeUnused();
  const freed = before - images.keptBytes();
  return { steps: BigInt(records.length), freedBytes: freed > 0n ? freed : 0n };
}
