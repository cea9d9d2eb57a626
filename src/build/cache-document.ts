import { z } from 'zod';
import { isDigest, type Digest } from '../image/digest';
import { mediaTypes, parseDocument, type Descriptor, type Manifest } from '../image/documents';
import { describePlatform, type Platform } from '../image/platform';
import { BerthError } from '../base/errors';

/*
 * The results of a build's steps, as they are handed on: an OCI image manifest, which every registry takes. Its layers are
 * the layers of the results, and its config says which key has which:
 *
 *   { "version": 1, "platform": "linux/amd64",
 *     "results": [ { "key": "<hex>", "createdAtMs": 1700000000000, "layer": { "digest": "sha256:…", "diffId": "sha256:…" } },
 *                  { "key": "<hex>", "createdAtMs": 1700000000001 } ] }
 *
 * An image may have such a document itself: as a text in its own config, below `inlineKey`.
 *
 * The platform is that of the node that has built. A key is the SHA-256 of a step's inputs (see `keyOf`). The inputs
 * themselves stay here: they have the text of commands and the values of build arguments. A result without a layer is one
 * of a step that changes nothing.
 */

export const cacheConfigType = 'application/vnd.berth.build-cache.config.v1+json';
export const inlineKey = 'berth.build-cache.v1';

/** A result that others may have made. */
export interface SharedResult {
  readonly key: string;
  readonly createdAtMs: number;
  readonly layer?: { readonly descriptor: Descriptor; readonly diffId: Digest };
}

/** Far above what builds have: two hundred bytes each, so that documents stay within what they may be long. */
const resultsMax = 10_000;
export const cacheRules = {
  configTypes: [cacheConfigType, mediaTypes.ociConfig, mediaTypes.dockerConfig],
  layersMax: resultsMax,
} as const;

/** The end of the year 9999. */
const timeMax = 253_402_300_799_999;

const digest = z.string().refine(isDigest, 'is not a digest');
const shape = z.object({
  version: z.literal(1, 'is not 1, the only version that this berth reads'),
  platform: z.string().max(200),
  results: z
    .array(
      z.object({
        key: z.string().regex(/^[0-9a-f]{64}$/, 'is no key'),
        createdAtMs: z.number().int().min(0).max(timeMax),
        layer: z.object({ digest, diffId: digest }).optional(),
      }),
    )
    .max(resultsMax, `are more than ${resultsMax}`),
});

/** The config, and the layers that the manifest has to name; of several results with one key the last one counts. */
export function writeCacheDocument(
  results: readonly SharedResult[],
  platform: Platform,
): { config: Buffer; layers: Descriptor[] } {
  const byKey = new Map(results.map(result => [result.key, result]));
  if (byKey.size > resultsMax)
    throw new BerthError(
      'failed_precondition',
      `${byKey.size} steps are too many for a cache; ${resultsMax} is the limit`,
    );
  const layers = new Map<Digest, Descriptor>();
  for (const { layer } of byKey.values()) if (layer) layers.set(layer.descriptor.digest, layer.descriptor);
  const document: z.input<typeof shape> = {
    version: 1,
    platform: describePlatform(platform),
    results: [...byKey.values()].map(({ key, createdAtMs, layer }) => ({
      ...{ key, createdAtMs },
      ...(layer ? { layer: { digest: layer.descriptor.digest, diffId: layer.diffId } } : {}),
    })),
  };
  return { config: Buffer.from(JSON.stringify(document)), layers: [...layers.values()] };
}

const inlineShape = z.object({ [inlineKey]: z.string().optional() });

/** Reads what `writeCacheDocument` may have written, and a stranger. `what` names the place in errors. */
export function readCacheDocument(
  config: Buffer,
  { config: { mediaType }, layers }: Manifest,
  platform: Platform,
  what: string,
): Map<string, SharedResult> {
  const document = parseDocument(shape, mediaType === cacheConfigType ? config : inlineIn(config, what), what);
  // Keys do not name the platform of the node that they are of.
  if (document.platform !== describePlatform(platform))
    throw new BerthError(
      'failed_precondition',
      `${what} is of a node of ${JSON.stringify(document.platform)}, and this one is ${describePlatform(platform)}`,
    );
  const descriptors = new Map(layers.map(layer => [layer.digest, layer]));
  const results = new Map<string, SharedResult>();
  for (const { key, createdAtMs, layer } of document.results) {
    const descriptor = layer && descriptors.get(layer.digest);
    if (layer && !descriptor) throw malformed(what, `its manifest has no layer ${layer.digest}`);
    if (results.has(key)) throw malformed(what, `the key ${key} stands twice`);
    const shared = layer && descriptor ? { layer: { descriptor, diffId: layer.diffId } } : {};
    results.set(key, { key, createdAtMs, ...shared });
  }
  return results;
}

function inlineIn(config: Buffer, what: string): Buffer {
  const text = parseDocument(inlineShape, config, what)[inlineKey];
  if (text !== undefined) return Buffer.from(text);
  throw new BerthError('failed_precondition', `${what} is an image without a cache`, {
    hint: 'build it with --cache-to type=inline',
  });
}

function malformed(what: string, why: string): BerthError {
  return new BerthError('failed_precondition', `${what} is malformed: ${why}`);
}
