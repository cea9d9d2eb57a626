import type { FileHandle } from 'node:fs/promises';
import type { Context } from '../base/context';
import { BerthError } from '../base/errors';
import { layoutEntriesMax, layoutIndexShape, refName } from './artefact';
import type { Content } from './content/content';
import type { Digest } from './digest';
import { mediaTypes, parseArtefact, parseDocument, type Descriptor } from './documents';
import { LayoutOutput } from './layout-output';
import { allOrFirst, PARALLEL } from './push';
import { canonicalForm, type Reference } from './reference';
import type { Uploads } from './registry/uploads';
import { compared } from './save';
import { Slots } from './slots';

/** An artefact whose documents and layers are in the content, and stay there. */
export interface NewArtefact {
  readonly manifest: { readonly digest: Digest; readonly bytes: Buffer };
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

/** Brings an artefact to a registry under a tag; what is there is not sent again, and the manifest is sent last. */
export async function pushArtefact(
  ctx: Context,
  content: Content,
  target: Reference,
  uploads: Uploads,
  { manifest, config, layers }: NewArtefact,
): Promise<void> {
  const slots = new Slots(PARALLEL);
  await allOrFirst(
    [...layers, config].map(({ digest, sizeBytes: bytes }) =>
      slots.run(ctx, slots, async () => {
        if (await uploads.has(ctx, digest)) return;
        await using file = await openBlob(content, digest);
        await uploads.upload(ctx, { digest, bytes, fd: file.fd }, () => undefined);
      }),
    ),
  );
  const { digest, bytes } = manifest;
  const found = await uploads.manifest(ctx, { name: target.tag ?? 'latest', mediaType: mediaTypes.ociManifest, bytes });
  if (found === undefined || found === digest) return;
  throw new BerthError(
    'data_loss',
    `push ${canonicalForm(target)}: the registry has the manifest as ${found}, and it is ${digest}`,
  );
}

/**
 * Adds an artefact to the OCI image layout in a directory of the node. What had the tag before goes, with the blobs that
 * nothing else in the layout needs: it does not grow for ever. Nobody else writes there meanwhile: see `Images.writeArtefact`.
 */
export async function writeToLayout(
  ctx: Context,
  content: Content,
  path: string,
  tag: string,
  artefact: NewArtefact,
): Promise<void> {
  const { manifest, config, layers } = artefact;
  await LayoutOutput.during(ctx, path, async output => {
    for (const { digest, sizeBytes } of [...layers, config]) {
      if (await output.hasBlob(digest, sizeBytes)) continue;
      await using file = await openBlob(content, digest);
      const bytes = file.createReadStream({ autoClose: false, highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>;
      await output.writeBlob(digest, compared(digest, sizeBytes, bytes));
    }
    await output.writeBlob(manifest.digest, [manifest.bytes]);
    await output.write('oci-layout', [Buffer.from(JSON.stringify({ imageLayoutVersion: '1.0.0' }))]);
    const index = await readIndex(output, path);
    const kept = index.manifests.filter(({ annotations }) => annotations?.[refName] !== tag);
    if (kept.length >= layoutEntriesMax) throw tooMany(path);
    const own = {
      mediaType: mediaTypes.ociManifest,
      digest: manifest.digest,
      size: manifest.bytes.length,
      annotations: { [refName]: tag },
    };
    await output.write('index.json', [Buffer.from(JSON.stringify({ ...index, manifests: [...kept, own] }))]);
    output.commit();
    const gone = index.manifests.filter(entry => !kept.includes(entry));
    await removeUnused(output, gone, kept, artefact);
  });
}

type LayoutIndex = ReturnType<typeof parseDocument<typeof layoutIndexShape>>;

async function readIndex(output: LayoutOutput, path: string): Promise<LayoutIndex> {
  const bytes = await output.read('index.json');
  if (bytes) return parseDocument(layoutIndexShape, bytes, `index.json of ${path}`);
  return { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [] };
}

function tooMany(path: string): BerthError {
  return new BerthError(
    'failed_precondition',
    `index.json of ${path} has ${layoutEntriesMax} entries already, and one with more is not read`,
    { hint: 'name a tag that is there, or another directory' },
  );
}

/** The blobs of manifests that are `gone`, but for those that others name. Nothing, if somebody's manifest cannot be read. */
async function removeUnused(
  output: LayoutOutput,
  gone: LayoutIndex['manifests'],
  kept: LayoutIndex['manifests'],
  { manifest, config, layers }: NewArtefact,
): Promise<void> {
  const before = await namedBy(output, gone, config.mediaType);
  const others = await namedBy(output, kept, config.mediaType);
  if (!before || !others) return;
  const used = new Set([...others, manifest.digest, config.digest, ...layers.map(({ digest }) => digest)]);
  for (const digest of before) if (!used.has(digest)) await output.removeBlob(digest);
}

/** Of blobs that one layout names: a thousand caches of a hundred steps have fewer. A layout may be a stranger's. */
const namedMax = 200_000;

/** All blobs of these manifests, themselves included; undefined when one is of another kind, or when they are too many. */
async function namedBy(
  output: LayoutOutput,
  entries: LayoutIndex['manifests'],
  configType: string,
): Promise<Set<Digest> | undefined> {
  const digests = new Set<Digest>();
  for (const [digest, mediaType] of new Map(entries.map(entry => [entry.digest, entry.mediaType]))) {
    try {
      const bytes = await output.readBlob(digest);
      if (!bytes) return undefined;
      const rules = { configTypes: [configType], layersMax: Infinity };
      const found = parseArtefact(bytes, mediaType, rules, 'a manifest');
      if (found.kind === 'index') return undefined;
      for (const name of [digest, found.config.digest, ...found.layers.map(layer => layer.digest)]) digests.add(name);
    } catch {
      return undefined; // it is not ours, and so is nobody's to judge
    }
    if (digests.size > namedMax) return undefined;
  }
  return digests;
}

async function openBlob(content: Content, digest: Digest): Promise<FileHandle> {
  const file = await content.open(digest);
  if (file) return file;
  throw new BerthError('data_loss', `the blob ${digest} is not in the store any more`, {
    hint: 'build again with --no-cache',
  });
}
