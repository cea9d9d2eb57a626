import { BerthError } from '../base/errors';
import type { Digest } from './digest';
import { choose, mediaTypes, parseManifest } from './documents';
import type { LayoutSource } from './layout';
import type { Platform } from './platform';

/** Which manifest or index of a layout is for this node. */
export async function resolveLayout(source: LayoutSource, node: Platform, path: string): Promise<Digest> {
  const index = parseManifest(await source.index(), mediaTypes.ociIndex, `${path}/index.json`);
  if (index.kind !== 'index') throw new BerthError('internal', `${path}/index.json is not an index`);
  return choose(index, node, path).digest;
}
