import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../base/context';
import { BerthError, kindOf } from '../base/errors';
import type { Logger } from '../base/log';
import type { Store, Table } from '../store/store';
import { Content } from './content/content';
import type { Digest } from './digest';
import { type ImageConfig } from './documents';
import { resolveLayout } from './import';
import { LayoutSource } from './layout';
import { Pins } from './pins';
import { nodePlatform, type Platform } from './platform';
import { fetchImage, type FetchedImage, type LayerProgress, type OnProgress, type PullParts } from './pull';
import type { ImageRecord } from './record';
import { canonicalForm, digestForm, parseReference, tagForm, wanted, type Reference } from './reference';
import type { RegistryAuth } from './registry/auth';
import { RegistryClient, type RegistryOptions } from './registry/client';
import { storedAuth, type DockerConfigOptions } from './registry/docker-config';
import { explainPull, type EndpointReport } from './registry/explain';
import { Transport, type TransportOptions } from './registry/transport';
import { collectUnused, findImage, withoutName } from './remove';
import { SharedFlight } from './shared-flight';
import { Slots } from './slots';
import { Layers, type LayerRecord } from './snapshot/layers';
import type { ImageSource } from './source';
import { removeDirectory } from './unpack/unpack';

export type { RegistryAuth } from './registry/auth';
export type { ImageConfig } from './documents';
export type { EndpointReport } from './registry/explain';
export type { LayerProgress, OnProgress } from './pull';

export interface ImageOptions {
  /** Holds `content/` and `layers/`; made with mode 0700. */
  readonly root: string;
  readonly store: Store;
  readonly log: Logger;
  /** Holds `<host[:port]>/hosts.toml`. */
  readonly hostsDir?: string;
  /** Hosts, besides loopback, that speak plain HTTP. */
  readonly plainHttp?: readonly string[];
  /** Without it, the node's own credentials are not looked for. */
  readonly dockerConfig?: DockerConfigOptions;
  readonly transport?: TransportOptions;
  readonly maxConcurrentDownloads?: number;
  /** Keys of layers that containers stand on; their images may be gone. */
  readonly layersInUse: () => Iterable<string>;
  /** For tests. */
  readonly platform?: Platform;
  readonly retryDelayMs?: number;
}

export interface ImageLayer {
  readonly key: string;
  readonly dir: string;
  readonly diffId: Digest;
  readonly sizeBytes: number;
}

export interface Image {
  /** `sha256:…`, the digest of the config; the same string in every RPC. */
  readonly id: Digest;
  readonly tags: readonly string[];
  readonly digests: readonly string[];
  /** On disk, unpacked. */
  readonly sizeBytes: bigint;
  readonly config: ImageConfig;
  /** From the base up; see `Images.lowerDirs` for mounting. */
  readonly layers: readonly ImageLayer[];
  readonly pinned: boolean;
}

/** An image as a pull or an import brought it. */
export interface PulledImage extends Image {
  /** Of what the name led to: an index or a manifest. */
  readonly digest: Digest;
}

export interface PullOptions {
  readonly auth?: RegistryAuth;
  readonly onProgress?: OnProgress;
}

/** Opens the images below `root`; half-made layers and records whose layers are gone are cleaned away. */
export async function openImages(options: ImageOptions): Promise<Images> {
  const { root, store, log } = options;
  await mkdir(root, { recursive: true, mode: 0o700 });
  const records = store.table<ImageRecord>('images', 1);
  const content = await Content.open(join(root, 'content'));
  const layers = await Layers.open(join(root, 'layers'), store.table<LayerRecord>('layers', 1), removeDirectory, log);
  for (const record of records.list()) {
    if (record.layerKeys.every(key => layers.get(key))) continue;
    log.warn(`image ${record.id} has lost a layer and is forgotten; pull it again`, { tags: record.tags });
    await records.remove(record.id);
  }
  const images = new Images(options, records, content, layers);
  await images.collect();
  return images;
}

export class Images {
  private readonly pins = new Pins();
  private readonly transport: Transport;
  private readonly pulls: SharedFlight<PulledImage, LayerProgress>;
  /** How far the layers of each pull under way are, for those who join it. */
  private readonly progress = new Map<string, Map<Digest, LayerProgress>>();
  private readonly parts: PullParts;

  /** See openImages. */
  constructor(
    private readonly options: ImageOptions,
    private readonly records: Table<ImageRecord>,
    private readonly content: Content,
    private readonly layers: Layers,
  ) {
    this.transport = new Transport(options.transport);
    this.pulls = new SharedFlight(options.log);
    this.parts = {
      root: options.root,
      content,
      layers,
      layerFlights: new SharedFlight(options.log),
      slots: new Slots(options.maxConcurrentDownloads ?? 6),
      platform: options.platform ?? nodePlatform(),
    };
  }

  /**
   * Brings the image of this name here and gives it the name; resolves once both
   * are on disk. Pulls of the same name with the same credentials are one pull,
   * which ends early only when everybody who asked has gone.
   */
  async pull(
    ctx: Context,
    text: string,
    { auth, onProgress = () => undefined }: PullOptions = {},
  ): Promise<PulledImage> {
    const reference = parseReference(text);
    ctx.stage(`pull ${canonicalForm(reference)}`);
    const key = pullKey(reference, auth);
    for (const event of this.progress.get(key)?.values() ?? []) onProgress(event);
    return this.pulls.join(ctx, key, onProgress, async (own, emit) => {
      const latest = new Map<Digest, LayerProgress>();
      this.progress.set(key, latest);
      using _ended = { [Symbol.dispose]: () => this.progress.get(key) === latest && this.progress.delete(key) };
      const source = await RegistryClient.open(reference, auth, this.registryOptions());
      return await this.bring(own, source, reference, wanted(reference), event => {
        latest.set(event.layer, event);
        emit(event);
      });
    });
  }

  /** What a pull would ask, in which order, and what it would be told. */
  async explain(ctx: Context, text: string, auth?: RegistryAuth): Promise<EndpointReport[]> {
    return explainPull(ctx, parseReference(text), auth, this.registryOptions());
  }

  private registryOptions(): RegistryOptions {
    const { hostsDir, plainHttp = [], retryDelayMs, dockerConfig } = this.options;
    return {
      transport: this.transport,
      hostsDir,
      plainHttp,
      ...(dockerConfig ? { storedFor: host => storedAuth(host, dockerConfig) } : {}),
      ...(retryDelayMs === undefined ? {} : { retryDelayMs }),
    };
  }

  /** Takes the image for this node out of an OCI image layout directory, and gives it the name `text`. */
  async importLayout(
    ctx: Context,
    path: string,
    text: string,
    onProgress: OnProgress = () => undefined,
  ): Promise<PulledImage> {
    const reference = parseReference(text);
    if (reference.digest !== undefined)
      throw new BerthError(
        'invalid_argument',
        `import ${path}: an image is given a tag, and ${canonicalForm(reference)} is a digest`,
      );
    const source = await LayoutSource.open(path);
    const digest = await resolveLayout(source, this.parts.platform, path);
    return this.bring(ctx, source, reference, digest, onProgress);
  }

  /** By name, by id, or by the beginning of an id; undefined when there is none, `invalid_argument` when there are several. */
  find(refOrId: string): Image | undefined {
    const record = findImage(this.records.list(), refOrId);
    return record && this.toImage(record);
  }

  list(): Image[] {
    return this.records.list().map(record => this.toImage(record));
  }

  /** What an overlay of this image stands on: `lowerdir`s, top first. */
  lowerDirs(image: Image): string[] {
    return this.layers.lowerDirs(image.layers.flatMap(({ key }) => this.layers.get(key) ?? []));
  }

  /** Removes the image with all its names; layers that containers stand on stay until they are gone. No image is no error. */
  async remove(refOrId: string): Promise<void> {
    const found = findImage(this.records.list(), refOrId);
    if (!found) return;
    await this.records.remove(found.id);
    await this.collect();
  }

  /** Takes one name away; the image goes with its last tag. `not_found` when no image has the name. */
  async untag(text: string): Promise<void> {
    const reference = parseReference(text);
    const name = canonicalForm(reference);
    await this.options.store.transaction(() => {
      const found = this.records.list().find(({ tags, digests }) => tags.includes(name) || digests.includes(name));
      if (!found) throw new BerthError('not_found', `no image is called ${name}`);
      const left = withoutName(found, name);
      if (left.tags.length === 0) void this.records.remove(found.id);
      else void this.records.put(found.id, left);
    });
    await this.collect();
  }

  /** Marks an image as one that the kubelet must not collect. */
  async setPinned(id: Digest, pinned: boolean): Promise<void> {
    await this.options.store.transaction(() => {
      const found = this.records.get(id);
      if (!found) throw new BerthError('not_found', `there is no image ${id}`);
      void this.records.put(id, { ...found, pinned });
    });
  }

  /** What images take on the disk, from what was counted while unpacking. */
  usage(): { usedBytes: bigint; inodesUsed: bigint } {
    let bytes = 0;
    let inodes = 0;
    for (const layer of this.layers.list()) {
      bytes += layer.diskBytes;
      inodes += layer.inodes;
    }
    const documents = new Map(
      this.records.list().flatMap(({ content }) => content.map(blob => [blob.digest, blob.sizeBytes])),
    );
    for (const size of documents.values()) bytes += Math.ceil(size / 4096) * 4096;
    return { usedBytes: BigInt(bytes), inodesUsed: BigInt(inodes + documents.size) };
  }

  /** Removes layers and documents that nothing needs any more; call it when a container is gone. */
  async collect(): Promise<void> {
    await collectUnused(() => this.records.list(), this.layers, this.content, this.pins, this.options.layersInUse);
  }

  /** Waits for what goes on by itself, and closes connections. Pulls must have ended. */
  async close(): Promise<void> {
    await this.pulls.settled();
    await this.parts.layerFlights.settled();
    await this.layers.settled();
    await this.transport.close();
  }

  /** After a failure finished layers wait for the next try, but for a full disk, which has better uses for the space. */
  private async bring(...args: Parameters<Images['fetchAndName']>): Promise<PulledImage> {
    try {
      return await this.fetchAndName(...args);
    } catch (error) {
      if (kindOf(error) === 'resource_exhausted') await this.collect();
      throw error;
    }
  }

  private async fetchAndName(
    ctx: Context,
    source: ImageSource,
    reference: Reference,
    which: string,
    onProgress: OnProgress,
  ): Promise<PulledImage> {
    return this.pins.during(async pin => {
      const fetched = await fetchImage(this.parts, ctx, source, reference, which, pin, onProgress);
      const record = await this.name(reference, fetched);
      await this.options.store.flushed();
      return { ...this.toImage(record), digest: fetched.digest };
    });
  }

  /** Writes the records, all or none; a tag that another image had moves to this one. */
  private name(reference: Reference, fetched: FetchedImage): Promise<ImageRecord> {
    const tag = tagForm(reference);
    return this.options.store.transaction(() => {
      for (const other of this.records.list())
        if (tag !== undefined && other.id !== fetched.id && other.tags.includes(tag))
          void this.records.put(other.id, withoutName(other, tag));
      const record = merged(this.records.get(fetched.id), fetched, tag, digestForm(reference, fetched.digest));
      this.layers.record(fetched.layers);
      void this.records.put(record.id, record);
      return record;
    });
  }

  private toImage(record: ImageRecord): Image {
    const layers = record.layerKeys.flatMap(key => {
      const layer = this.layers.get(key);
      return layer ? [{ key, dir: layer.dir, diffId: layer.diffId, sizeBytes: layer.diskBytes }] : [];
    });
    const bytes = [...layers, ...record.content].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const { id, tags, digests, config, pinned } = record;
    return { id, tags, digests, config, layers, pinned, sizeBytes: BigInt(bytes) };
  }
}

function merged(
  before: ImageRecord | undefined,
  fetched: FetchedImage,
  tag: string | undefined,
  digest: string,
): ImageRecord {
  const content = new Map([...(before?.content ?? []), ...fetched.content].map(blob => [blob.digest, blob]));
  return {
    version: 1,
    id: fetched.id,
    tags: [...new Set([...(before?.tags ?? []), ...(tag === undefined ? [] : [tag])])],
    digests: [...new Set([...(before?.digests ?? []), digest])],
    config: fetched.config,
    layerKeys: fetched.layers.map(layer => layer.key),
    content: [...content.values()],
    pinned: before?.pinned ?? false,
  };
}

/** Credentials are part of it: who may not see an image must not ride along with one who may. */
function pullKey(reference: Reference, auth: RegistryAuth | undefined): string {
  const secret =
    auth === undefined
      ? ''
      : createHash('sha256')
          .update(JSON.stringify(Object.entries(auth).sort()))
          .digest('hex');
  return `${canonicalForm(reference)} ${secret}`;
}
