import { chmod, chown, mkdir, open, rename, rmdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { BerthError } from '../base/errors';
import type { GitSource } from '../base/git-source';
import { chainIdOf, digestOf, parseDigest, type Digest } from './digest';
import { mediaTypes, parseImageConfig, type Descriptor } from './documents';
import { writeIndex, writeManifest, type IndexEntry } from './archive';
import type { Artefact } from './artefact';
import type { NewArtefact } from './artefact-output';
import { downloadFile } from './download';
import { spool, type Chunks } from './incoming';
import { cloneRepository, type Repository } from './git-repository';
import { manifestOf } from './manifest-of';
import { fits, type Platform } from './platform';
import { fetchSingleLayer, type FetchedImage, type OnProgress, type PullParts } from './pull';
import type { ImageRecord } from './record';
import type { Transport } from './registry/transport';
import { layerKey, type Layer } from './snapshot/layers';
import { unpackArchive } from './unpack/archive';
import { copyFiles, type CopyOp } from './unpack/copy';
import { packLayer, packTree } from './unpack/pack';
import { SentFiles } from './sent-files';
import { scan, type Scanned, type ScanRequest } from './unpack/scan';
import { syncFileSystem, unpackLayer } from './unpack/unpack';

export { NoArchive } from './unpack/archive';
export type { CopyOp } from './unpack/copy';
export type { SentFiles } from './sent-files';
export type { ScannedEntry } from './unpack/scan';

/** A layer that is here, and how a manifest names it. */
export interface BuiltLayer {
  readonly layer: Layer;
  readonly descriptor: Descriptor;
}

/** An image to build on. */
export interface BaseImage {
  /** As it is written; checked when the image came. */
  readonly config: unknown;
  readonly layers: readonly BuiltLayer[];
}

/** Where files are: a directory, what layers show, or what a client has sent. */
export type Source =
  { readonly dir: string } | { readonly layers: readonly BuiltLayer[] } | { readonly sent: SentFiles };

/** What an image is made of: its config as it will be written, and its layers. */
export interface Unfinished {
  readonly document: Platform;
  readonly layers: readonly BuiltLayer[];
}

/** What was made: one image, or one for each of several platforms. */
export interface Finished {
  /** Of several the node's, or the first. */
  readonly image: FetchedImage;
  readonly images: readonly FetchedImage[];
  /** Of the manifest, or of the index of several. */
  readonly digest: Digest;
}

/** Operations, and where their files come from. */
export interface Copy {
  readonly ops: readonly CopyOp[];
  readonly source: Source | undefined;
}

/** How an upper directory becomes a layer. */
export interface PackOptions {
  readonly below: readonly BuiltLayer[];
  readonly mountPoints?: readonly string[];
  readonly epochSeconds?: number | undefined;
}

/** An agent's socket, and the keys of the hosts that whoever builds knows, as lines of a known_hosts. */
export interface LentSsh {
  readonly agent: string;
  readonly knownHosts: Uint8Array;
}

/** What building works with, lent by the images. */
export interface WorkshopParts extends PullParts {
  /** The node's. */
  readonly platform: Platform;
  readonly transport: Transport;
}

/**
 * What building needs of the images: to look at layers, to copy on top of them, to turn an upper directory into one, and
 * to make an image of some. Whatever it makes or finds stays as long as the workshop is open.
 */
export class Workshop {
  private names = 0;
  /** What has no record yet. */
  private readonly made = new Set<Layer>();

  /** `dir` is private, of the layers' file system, and goes with the workshop. */
  constructor(
    private readonly parts: WorkshopParts,
    readonly dir: string,
    private readonly pin: (name: string) => void,
    private readonly record: (
      tags: readonly string[] | undefined,
      images: readonly FetchedImage[],
      others: readonly Layer[],
    ) => Promise<void>,
  ) {}

  /** The node's. */
  get platform(): Platform {
    return this.parts.platform;
  }

  /** A name in `dir` that nothing has yet. */
  fresh(what: string): string {
    return join(this.dir, `${what}-${++this.names}`);
  }

  /** What an image is made of. Its layers must be sound: see `Images.ready`. */
  async base({ id, content, config: platform }: ImageRecord): Promise<BaseImage> {
    const found = await manifestOf(this.parts.content, id, content);
    if (found) {
      const { manifest, config } = found;
      const { diffIds } = parseImageConfig(config, manifest.layers.length, platform, `the config ${id}`);
      const layers = manifest.layers.map((descriptor, i) => ({ descriptor, layer: this.layerOf(id, diffIds, i) }));
      for (const { layer, descriptor } of layers) this.keep(layer.key, descriptor.digest);
      return { config: JSON.parse(config.toString('utf8')), layers };
    }
    throw new BerthError('data_loss', `the manifest or the config of image ${id} is not in the store`, {
      hint: 'pull the image again',
    });
  }

  private layerOf(id: Digest, diffIds: readonly Digest[], i: number): Layer {
    const diffId = diffIds[i];
    const layer = diffId && this.parts.layers.find(diffId, chainIdOf(diffIds.slice(0, i + 1)));
    if (layer) return layer;
    throw new BerthError('data_loss', `image ${id} has lost a layer`, { hint: 'pull the image again' });
  }

  /** A layer that was made here before, if it and its blob still are here and sound. */
  async find(key: string, descriptor: Descriptor): Promise<BuiltLayer | undefined> {
    this.keep(key, descriptor.digest);
    const layer = this.parts.layers.get(key);
    if (layer?.state !== 'sound') return undefined;
    const size = await this.parts.content.sizeOf(descriptor.digest);
    return size === descriptor.sizeBytes ? { layer, descriptor } : undefined;
  }

  /** A layer that an artefact has, with its blob: it is here already, or comes as the layers of a pull do. */
  async bring(
    ctx: Context,
    { source, repository }: Pick<Artefact, 'source' | 'repository'>,
    wanted: { readonly descriptor: Descriptor; readonly diffId: Digest },
    below: readonly BuiltLayer[],
    onProgress: OnProgress,
  ): Promise<BuiltLayer> {
    const request = { ...wanted, repository, below: below.map(({ layer }) => layer) };
    const brought = await fetchSingleLayer(this.parts, ctx, source, request, this.pin, onProgress);
    this.keep(brought.layer.key);
    this.made.add(brought.layer);
    return brought;
  }

  /** An artefact of layers that are here, ready to be written somewhere while the workshop is open. */
  async artefact(config: Buffer, configType: string, layers: readonly Descriptor[]): Promise<NewArtefact> {
    const { digest, manifest, documents } = writeManifest(config, layers, configType);
    await this.ingest(documents);
    return {
      manifest: { digest, bytes: manifest },
      config: { mediaType: configType, digest: digestOf(config), sizeBytes: config.length },
      layers,
    };
  }

  /** Directories for an overlay of these layers, top first, at least one. */
  lowerDirs(layers: readonly BuiltLayer[]): string[] {
    return this.parts.layers.lowerDirs(layers.map(({ layer }) => layer));
  }

  /** The same for an overlay that nobody writes to, which needs two; of no layers one that is empty. */
  private sourceDirs(layers: readonly BuiltLayer[]): string[] {
    const dirs = this.lowerDirs(layers);
    return dirs.length > 1 || layers.length === 0 ? dirs : [...dirs, ...this.parts.layers.lowerDirs([])];
  }

  async scan(ctx: Context, source: Source, request: Omit<ScanRequest, 'dirs'>): Promise<Scanned> {
    if ('sent' in source) return source.sent.scan(request, ctx.signal);
    return scan({ ...request, dirs: await this.dirsOf(source) }, ctx.signal);
  }

  /** The directories that a source is in: one, or those of an overlay, top first. */
  async dirsOf(source: Source): Promise<string[]> {
    if ('layers' in source) return this.sourceDirs(source.layers);
    return ['dir' in source ? source.dir : await source.sent.dir()];
  }

  /** Copies on top of layers, one after the other; the layer that comes of it, or undefined when nothing has changed. */
  async copy(
    ctx: Context,
    copies: readonly Copy[],
    { below, epochSeconds }: PackOptions,
  ): Promise<BuiltLayer | undefined> {
    const upper = await this.copied(ctx, copies, below);
    return this.pack(ctx, upper, { below, epochSeconds });
  }

  /** The directory with what copies on top of layers change. */
  async copied(ctx: Context, copies: readonly Copy[], below: readonly BuiltLayer[]): Promise<string> {
    const place = this.fresh('copy');
    const upper = join(place, 'upper');
    const lowers = this.lowerDirs(below);
    await mkdir(upper, { recursive: true, mode: 0o755 });
    await chmod(upper, 0o755);
    if (below.length > 0) await likeRootOf(lowers, upper);
    for (const [i, { ops, source }] of copies.entries()) {
      const dirs = source === undefined ? [] : await this.dirsOf(source);
      const [work, listPath] = [join(place, `work-${i}`), join(place, `list-${i}`)];
      await copyFiles({ ops, source: dirs, lowers, upper, work, listPath }, ctx.signal);
    }
    return upper;
  }

  /**
   * Makes a layer of an upper directory, which is given away: nobody uses it any more. Undefined, and the directory
   * stays, when nothing is in it.
   */
  async pack(ctx: Context, upper: string, options: PackOptions): Promise<BuiltLayer | undefined> {
    const { below, mountPoints = [], epochSeconds } = options;
    const begun = await this.parts.layers.begin();
    let kept = false;
    try {
      const blobPath = this.fresh('blob');
      await using blob = await open(blobPath, 'wx', 0o600);
      await using manifest = await open(begun.manifestPath, 'wx', 0o600);
      const packed = await packLayer(
        {
          ...{ dir: upper, blob, manifest, mountPoints, below: this.lowerDirs(below) },
          ...(epochSeconds === undefined ? {} : { epochSeconds }),
        },
        ctx.signal,
      );
      if (packed.entries === 0) return undefined;
      crashPoint('build.packed');
      const { digest, sizeBytes, diffId, diskBytes, inodes, opaqueRoot } = packed;
      const descriptor = { mediaType: mediaTypes.ociLayerGzip, digest, sizeBytes };
      const key = layerKey(diffId);
      this.keep(key, digest);
      await this.parts.content.adopt(digest, blobPath);
      await rmdir(begun.dir);
      await rename(upper, begun.dir);
      const layer = await this.parts.layers.keep(begun, {
        ...{ version: 2, key, diffId, diskBytes, inodes, opaqueRoot, hasManifest: true, state: 'sound' },
        blob: { ...descriptor, repository: undefined },
      });
      kept = true;
      this.made.add(layer);
      return { layer, descriptor };
    } finally {
      if (!kept) await this.parts.layers.giveUp(begun);
    }
  }

  /** A copy of an upper directory that somebody still writes to, to be packed: what it was at some moment, file by file. */
  async copyOfUpper(ctx: Context, upper: string): Promise<string> {
    const path = this.fresh('copy');
    const dir = this.fresh('upper');
    await mkdir(dir, { mode: 0o755 });
    await using blob = await open(path, 'wx+', 0o600);
    const packed = await packLayer({ dir: upper, blob, below: [], mountPoints: [], plain: true }, ctx.signal);
    const { digest, sizeBytes, diffId } = packed;
    const file = await open(path, 'r');
    const layer = { mediaType: mediaTypes.ociLayer, digest, sizeBytes };
    await unpackLayer(
      { layer, diffId, dir, below: 'unknown' },
      { offset: 0, file, close: () => file.close() },
      ctx.signal,
    );
    return dir;
  }

  /** All files that layers show, as a plain tar. */
  async fileSystem(
    ctx: Context,
    layers: readonly BuiltLayer[],
    epochSeconds: number | undefined,
    send: (bytes: Buffer) => Promise<void>,
  ): Promise<void> {
    await packTree(this.sourceDirs(layers), epochSeconds, ctx.signal, send);
  }

  /** Brings what a URL has into the new file `path`; `digest` is what it must be, where it is known. */
  async download(ctx: Context, url: string, path: string, digest: string | undefined): Promise<void> {
    const expected = digest === undefined ? undefined : parseDigest(digest, `the checksum of ${url}`);
    await downloadFile(this.parts.transport, ctx, url, path, expected);
  }

  /** Brings the files of a repository into the new directory `dir`; `ssh` as it is lent for servers that are reached by it. */
  async clone(
    ctx: Context,
    source: GitSource,
    dir: string,
    { keepsGitDir, ssh }: { keepsGitDir: boolean; ssh: LentSsh | undefined },
  ): Promise<Repository> {
    if (!ssh) return cloneRepository(ctx, source, dir, { keepsGitDir });
    const knownHosts = this.fresh('known-hosts');
    await writeFile(knownHosts, ssh.knownHosts, { mode: 0o600 });
    return cloneRepository(ctx, source, dir, { keepsGitDir, ssh: { agent: ssh.agent, knownHosts } });
  }

  /** Takes a tar that comes in pieces; that it is one, who needs its files finds out. */
  async receive(ctx: Context, chunks: Chunks, what: string): Promise<SentFiles> {
    const { path, sizeBytes } = await spool(ctx, chunks, this.fresh('received'), what);
    return new SentFiles(path, this.lowerDirs([]), async () => {
      const dir = this.fresh('sent');
      await this.extract(ctx, path, sizeBytes, what, dir);
      return dir;
    });
  }

  /** Unpacks a tar, plain or with gzip or zstd, into the new directory `dir`; throws `NoArchive` for what is none. */
  async extract(ctx: Context, path: string, sizeBytes: number, what: string, dir: string): Promise<void> {
    await mkdir(dir, { mode: 0o700 });
    await unpackArchive({ path, sizeBytes }, dir, what, ctx.signal);
  }

  /**
   * Makes images of configs and layers, and of several, for different platforms, their index, on disk when it resolves, and
   * gives them the tags, which are in full. Without `tags` they are no images of the store: they go with the workshop, and
   * their layers stay as the cache needs them.
   */
  async finish(ctx: Context, built: readonly Unfinished[], tags: readonly string[] | undefined): Promise<Finished> {
    const images = [];
    for (const one of built) images.push(await this.write(one));
    const index = images.length > 1 ? writeIndex(images.map(indexEntry)) : undefined;
    if (index) await this.ingest(new Map([[index.digest, index.bytes]]));
    // What has a record was on the disk before it; documents and blobs are from when they have their names.
    const layers = [...images.flatMap(image => image.layers), ...this.made];
    ctx.stage('write the image to disk');
    if (!layers.every(({ key }) => this.parts.layers.isRecorded(key))) await syncFileSystem(this.parts.root);
    crashPoint('build.synced');
    const finished = index ? images.map(image => ofIndex(image, index)) : images;
    await this.record(tags, finished, [...this.made]);
    const own = finished.find(({ config }) => fits(config, this.parts.platform)) ?? finished[0];
    if (own) return { image: own, images: finished, digest: own.digest };
    throw new BerthError('internal', 'there is nothing to make an image of');
  }

  private async write({ document, layers }: Unfinished): Promise<WrittenImage> {
    const config = Buffer.from(JSON.stringify(document));
    const descriptors = layers.map(({ descriptor }) => descriptor);
    const { digest, manifest, documents } = writeManifest(config, descriptors);
    const parsed = parseImageConfig(config, layers.length, document, 'the image that was built');
    await this.ingest(documents);
    const kept = await Promise.all(
      descriptors.map(async each => ((await this.parts.content.has(each.digest)) ? [each] : [])),
    );
    return {
      ...{ id: digestOf(config), digest, config: parsed, layers: layers.map(({ layer }) => layer) },
      content: [
        ...[...documents].map(([name, bytes]) => ({ digest: name, sizeBytes: bytes.length })),
        ...kept.flat().map(({ digest: blob, sizeBytes }) => ({ digest: blob, sizeBytes })),
      ],
      manifestBytes: manifest.length,
    };
  }

  private async ingest(documents: ReadonlyMap<Digest, Buffer>): Promise<void> {
    for (const [name, bytes] of documents) {
      this.pin(name);
      if (await this.parts.content.read(name)) continue;
      await this.parts.content.ingest(name, bytes.length, bytes, 'a document of what was built');
    }
  }

  private keep(...names: string[]): void {
    names.forEach(this.pin);
  }
}

interface WrittenImage extends FetchedImage {
  readonly manifestBytes: number;
}

function indexEntry({ digest, config, manifestBytes }: WrittenImage): IndexEntry {
  return { descriptor: { mediaType: mediaTypes.ociManifest, digest, sizeBytes: manifestBytes }, platform: config };
}

/** As a pull of the index would have it. */
function ofIndex(image: WrittenImage, { digest, bytes }: { digest: Digest; bytes: Buffer }): FetchedImage {
  return { ...image, digest, content: [{ digest, sizeBytes: bytes.length }, ...image.content] };
}

/** The root directory of an overlay is its uppermost one: it looks as the one below does. */
async function likeRootOf(lowers: readonly string[], upper: string): Promise<void> {
  if (lowers[0] === undefined) return;
  const { mode, uid, gid } = await stat(lowers[0]);
  await chown(upper, uid, gid);
  await chmod(upper, mode & 0o7777);
}
