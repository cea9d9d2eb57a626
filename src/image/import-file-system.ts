import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { ArchiveSource, layerTypeOf, writeManifest, type ArchiveImage } from './archive';
import { ArchiveFiles } from './archive-files';
import type { ConfigObject } from './config-changes';
import type { Digest } from './digest';
import { spool, type Chunks } from './incoming';
import type { Platform } from './platform';
import { unpackArchive } from './unpack/archive';

/** An image of one layer, whose blob is in a file of ours. */
export interface FileSystemImage extends ArchiveImage {
  readonly layer: { readonly digest: Digest; readonly sizeBytes: number; readonly path: string };
}

/**
 * Writes the documents of an image whose only layer is the tar that comes. It is
 * unpacked once here, for what its digests are, and once more as a layer, by the
 * way that all layers go.
 */
export async function fileSystemImage(
  ctx: Context,
  dir: string,
  chunks: Chunks,
  what: string,
  about: { node: Platform; config: ConfigObject; message: string; createdAtMs: number },
): Promise<Omit<FileSystemImage, 'names'>> {
  ctx.stage(`receive ${what}`);
  const archive = await spool(ctx, chunks, join(dir, 'layer'), what);
  crashPoint('import.received');
  ctx.stage(`unpack ${what}`);
  await mkdir(join(dir, 'files'), { mode: 0o700 });
  const { digest: layer, diffId } = await unpackArchive({ ...archive }, join(dir, 'files'), what, ctx.signal);
  crashPoint('import.unpacked');
  const config = Buffer.from(JSON.stringify(configDocument(diffId, about)));
  const { digest, documents } = writeManifest(config, [
    { mediaType: await typeOf(archive.path), digest: layer, sizeBytes: archive.sizeBytes },
  ]);
  const source = new ArchiveSource(await ArchiveFiles.open(dir, what), documents, () => 'layer');
  return { source, digest, isOriginal: false, layer: { digest: layer, ...archive } };
}

async function typeOf(path: string): Promise<string> {
  await using file = await open(path, 'r');
  return await layerTypeOf(file);
}

function configDocument(
  diffId: Digest,
  {
    node,
    config,
    message,
    createdAtMs,
  }: { node: Platform; config: ConfigObject; message: string; createdAtMs: number },
): object {
  const created = new Date(createdAtMs).toISOString();
  return {
    ...node,
    created,
    config,
    rootfs: { type: 'layers', diff_ids: [diffId] },
    history: [{ created, created_by: 'berth image import', ...(message === '' ? {} : { comment: message }) }],
  };
}
