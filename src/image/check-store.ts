import type { Context } from '../base/context';
import { messageOf } from '../base/errors';
import type { Check, CheckOptions, Finding } from './check';
import type { Digest } from './digest';
import type { Look } from './heal';
import type { ImageRecord } from './record';
import type { Collected } from './remove';
import type { Layer } from './snapshot/layers';

/** What a check looks at, and how it repairs. */
export interface CheckParts extends Collected {
  readonly usage: () => { usedBytes: bigint };
  readonly verify: (layer: Layer) => Promise<Look>;
  readonly refetchLayer: (key: string) => Promise<void>;
  readonly refetchDocument: (record: ImageRecord, digest: Digest) => Promise<void>;
  /** Removes what no image needs. */
  readonly sweep: () => Promise<void>;
}

type Found = Omit<Finding, 'repair' | 'repairError'> & { readonly fix: () => Promise<void> };

/** Looks at layers, then blobs, then at what nobody needs; see `check.ts`. */
export async function* checkStore(parts: CheckParts, ctx: Context, { repair }: CheckOptions): Check {
  const layers = parts.layers.list();
  const blobs = new Set(parts.records().flatMap(({ content }) => content.map(blob => blob.digest)));
  const counts = { findings: 0, repaired: 0, done: 0 };
  const total = layers.length + blobs.size;
  for (const find of [missingLayers, damagedLayers, blobsOf, leftovers])
    for await (const found of find(parts)) {
      ctx.throwIfEnded();
      if (found === 'looked') {
        yield { type: 'progress', done: ++counts.done, total };
        continue;
      }
      const finding = await settled(found, repair);
      ctx.throwIfEnded();
      counts.findings++;
      if (finding.repair === 'done') counts.repaired++;
      yield { type: 'finding', finding };
    }
  const { findings, repaired } = counts;
  const { usedBytes } = parts.usage();
  yield { type: 'summary', summary: { layers: layers.length, blobs: blobs.size, findings, repaired, usedBytes } };
}

async function settled({ fix, ...found }: Found, repair: boolean): Promise<Finding> {
  if (!repair) return { ...found, repair: 'not asked' };
  try {
    await fix();
    return { ...found, repair: 'done' };
  } catch (error) {
    return { ...found, repair: 'failed', repairError: messageOf(error) };
  }
}

async function* missingLayers({ records, layers }: CheckParts): AsyncGenerator<Found> {
  const names = new Map<string, string[]>();
  for (const record of records())
    for (const key of record.layerKeys)
      if (!layers.get(key)) names.set(key, [...(names.get(key) ?? []), nameOf(record)]);
  for (const [subject, images] of names) {
    const fix = () => Promise.reject(new Error('pull the image again'));
    yield { kind: 'layer-missing', subject, detail: 'its directory is gone', images, sizeBytes: 0, fix };
  }
}

async function* damagedLayers(parts: CheckParts): AsyncGenerator<Found | 'looked'> {
  for (const { key } of parts.layers.list()) {
    const layer = parts.layers.get(key);
    if (!layer) continue;
    const about = { subject: key, images: imagesWith(parts, key), sizeBytes: layer.diskBytes };
    const look = await parts.verify(layer);
    const fix = () => parts.refetchLayer(key);
    if (!look) yield { ...about, kind: 'layer-unverifiable', detail: 'it has no manifest', fix };
    else if (look.damage !== undefined) yield { ...about, kind: 'layer-damaged', detail: look.damage, fix };
    yield 'looked';
  }
}

async function* blobsOf(parts: CheckParts): AsyncGenerator<Found | 'looked'> {
  const looked = new Set<string>();
  for (const record of parts.records())
    for (const { digest, sizeBytes } of record.content) {
      if (looked.has(digest)) continue;
      looked.add(digest);
      const size = await parts.content.sizeOf(digest);
      const images = parts
        .records()
        .filter(({ content }) => content.some(blob => blob.digest === digest))
        .map(nameOf);
      // A kept layer blob is a copy: without it its layer is fetched.
      const isCopy = parts.layers.list().some(({ blob }) => blob?.digest === digest);
      const fix = () => (isCopy ? parts.content.remove(digest) : parts.refetchDocument(record, digest));
      const about = { subject: digest, images, sizeBytes: size ?? 0, fix };
      if (size === undefined && isCopy) yield 'looked';
      else if (size === undefined) yield { ...about, kind: 'blob-missing', detail: 'it is not here' };
      else if (size !== sizeBytes)
        yield { ...about, kind: 'blob-damaged', detail: `it has ${size} bytes, and had ${sizeBytes}` };
      else if (!(await parts.content.isWhole(digest)))
        yield { ...about, kind: 'blob-damaged', detail: 'it has another digest than its name' };
      if (size !== undefined || !isCopy) yield 'looked';
    }
}

async function* leftovers(parts: CheckParts): AsyncGenerator<Found> {
  const about = { images: [] };
  for (const subject of await parts.layers.orphans()) {
    const fix = () => Promise.resolve(parts.layers.removeOrphan(subject));
    yield { ...about, kind: 'orphan-directory', subject, detail: 'no record knows it', sizeBytes: 0, fix };
  }
  const used = new Set<string>(parts.records().flatMap(({ content }) => content.map(blob => blob.digest)));
  for (const subject of await parts.content.list())
    if (!used.has(subject) && !parts.pins.has(subject)) {
      const sizeBytes = (await parts.content.sizeOf(subject)) ?? 0;
      yield { ...about, kind: 'orphan-blob', subject, detail: 'no image needs it', sizeBytes, fix: parts.sweep };
    }
  for (const { digest, sizeBytes } of await parts.partials.list())
    if (!parts.pins.has(digest)) {
      const detail = 'it waits for a pull to go on with it';
      yield { ...about, kind: 'partial-leftover', subject: digest, detail, sizeBytes, fix: parts.sweep };
    }
}

function imagesWith({ records }: CheckParts, key: string): string[] {
  return records()
    .filter(({ layerKeys }) => layerKeys.includes(key))
    .map(nameOf);
}

function nameOf({ id, tags, digests }: ImageRecord): string {
  return tags[0] ?? digests[0] ?? id;
}
