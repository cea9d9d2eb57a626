import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { BerthError, messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import { Events } from '../events/events';
import type { Store, Table } from '../store/store';
import { KeyedLock } from '../base/keyed-lock';
import { readBootMark, type BootMark } from './boot';
import { checkStore } from './check-store';
import type { Check, CheckOptions } from './check';
import type { ArchiveImage } from './archive';
import { readArtefact, type Artefact, type ArtefactPlace } from './artefact';
import { pushArtefact, writeToLayout, type NewArtefact } from './artefact-output';
import { DirectoryOutput, TarOutput } from './archive-output';
import { configOf } from './config-changes';
import { Content } from './content/content';
import { Partials } from './content/partials';
import type { Digest } from './digest';
import { notFor, type ArtefactRules, type ImageConfig } from './documents';
import { resolveLayout } from './import';
import { fileSystemImage } from './import-file-system';
import { Incoming, type Chunks } from './incoming';
import { LayoutSource } from './layout';
import { givenName, loadArchive, type LoadRequest } from './load';
import { readManifest } from './manifests';
import { Pins } from './pins';
import { describePlatform, fits, nodePlatform, rankedPlatforms, type Platform } from './platform';
import {
  fetchImage,
  type FetchedImage,
  type LayerProgress,
  type OnProgress,
  type PullParts,
  type Wanted,
} from './pull';
import { PullBook, type Asker, type Pull } from './pulls';
import { upgradeImage, type ImageRecord } from './record';
import { Healer } from './heal';
import { isFull, Reserve } from './reserve';
import {
  canonicalForm,
  digestForm,
  parseHost,
  parseReference,
  type Reference,
  repositoryForm,
  tagForm,
  wanted,
} from './reference';
import type { RegistryAuth } from './registry/auth';
import { collectUnused, findImage, imagesNamed, withoutName, type Collected } from './remove';
import { fetchDocumentAgain, fetchLayerAgain } from './refetch';
import { bundleOf, type Bundle, type ExportParts } from './exported';
import { pushImage, type PushedImage, type PushProgress } from './push';
import { saveImages } from './save';
import { RegistryClient, type RegistryOptions } from './registry/client';
import { storedAuth, storesCredentials, type DockerConfigOptions } from './registry/docker-config';
import { forgetLogin, keepLogin, type Login } from './registry/docker-login';
import { explainPull, type EndpointReport } from './registry/explain';
import { Transport, type TransportOptions } from './registry/transport';
import { Uploads } from './registry/uploads';
import { SharedFlight } from './shared-flight';
import { Slots } from './slots';
import { Layers, upgradeLayer, type Layer, type LayerRecord, type LayerState } from './snapshot/layers';
import { removeDirectory, syncFileSystem } from './unpack/unpack';
import { Workshop, type BaseImage, type Finished } from './workshop';

export type { RegistryAuth } from './registry/auth';
export type { EndpointReport } from './registry/explain';
export type { PushProgress } from './push';
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
  /** Keeps the compressed layers, too. */
  readonly keepLayerBlobs?: boolean;
  readonly allowForeignLayers?: boolean;
  /** Keys of layers that containers stand on; their images may be gone. */
  readonly layersInUse: () => Iterable<string>;
  /** Has the layer keys and blob digests that the build cache keeps. */
  readonly keptByBuilds?: { has(name: string): boolean };
  /** Where pulls are entered while they run. */
  readonly book?: PullBook;
  /** Where what happens is told. */
  readonly events?: Events;
  /** For tests. */
  readonly platform?: Platform;
  readonly retryDelayMs?: number;
  readonly bootId?: string;
}

interface ImageLayer {
  readonly key: string;
  readonly dir: string;
  readonly diffId: Digest;
  readonly sizeBytes: number;
  readonly state: LayerState;
  /** Compressed; undefined when it is not known any more. */
  readonly digest: Digest | undefined;
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
  /** The runtime handler that it was pulled for; empty for any. */
  readonly runtimeHandler: string;
}

/** An image as a pull or an import brought it. */
export interface PulledImage extends Image {
  /** Of what the name led to: an index or a manifest. */
  readonly digest: Digest;
}

export interface PullOptions {
  readonly auth?: RegistryAuth;
  readonly onProgress?: OnProgress;
  readonly askedBy?: Asker;
  readonly runtimeHandler?: string;
  /** Without it, the node's. */
  readonly platform?: Platform;
}

/** Opens the images below `root`; half-made layers and records whose layers are gone are cleaned away. */
export async function openImages(options: ImageOptions): Promise<Images> {
  const { root, store, log } = options;
  await mkdir(root, { recursive: true, mode: 0o700 });
  const boot = readBootMark(root, options.bootId);
  const records = store.table<ImageRecord>('images', 2, upgradeImage);
  const content = await Content.open(join(root, 'content'));
  const partials = await Partials.open(join(root, 'content', 'partial'));
  const incoming = await Incoming.open(join(root, 'incoming'), log);
  const table = store.table<LayerRecord>('layers', 2, upgradeLayer);
  const { sameBoot } = boot;
  const layers = await Layers.open({ root: join(root, 'layers'), table, remove: removeDirectory, sameBoot, log });
  for (const record of records.list()) {
    if (record.layerKeys.every(key => layers.get(key))) continue;
    log.warn(`image ${record.id} has lost a layer and is forgotten; pull it again`, { tags: record.tags });
    await records.remove(record.id);
  }
  if (boot.unclean) await suspectAll(layers, log);
  await store.flushed();
  boot.begin();
  const images = new Images(options, records, content, partials, layers, boot, incoming);
  await images.start();
  return images;
}

/** Each is looked at before its next use; the record says so, since this daemon may end before it has looked. */
async function suspectAll(layers: Layers, log: Logger): Promise<void> {
  const sound = layers.list().filter(({ state }) => state === 'sound');
  if (sound.length === 0) return;
  log.warn(`the machine did not go down in order: ${sound.length} layers are verified before their next use`);
  await layers.setState(
    sound.map(({ key }) => key),
    'suspect',
  );
}

export class Images {
  /** The pulls that run, and those that have just ended. */
  readonly book: PullBook;
  /** What this node is. */
  readonly node: Platform;
  private readonly pins: Pins;
  private readonly transport: Transport;
  private readonly pulls: SharedFlight<PulledImage, LayerProgress>;
  /** How far the layers of each pull under way are, for those who join it. */
  private readonly progress = new Map<string, Map<Digest, LayerProgress>>();
  private readonly entries = new Map<string, Pull>();
  private readonly parts: PullParts;
  private readonly reserve: Reserve;
  private readonly healer: Healer;
  /** By path: who adds to one reads first what is there. */
  private readonly layouts = new KeyedLock();
  private readonly ended = new AbortController();
  private readonly events: Events;

  /** See openImages. */
  constructor(
    private readonly options: ImageOptions,
    private readonly records: Table<ImageRecord>,
    private readonly content: Content,
    private readonly partials: Partials,
    private readonly layers: Layers,
    private readonly boot: BootMark,
    private readonly incoming: Incoming,
  ) {
    this.node = options.platform ?? nodePlatform();
    this.pins = new Pins(options.keptByBuilds);
    this.reserve = new Reserve(options.root, options.log);
    this.healer = new Healer(layers, (ctx, layer) => this.refetchLayer(ctx, layer.key), options.log);
    this.book = options.book ?? new PullBook();
    this.events = options.events ?? new Events();
    this.transport = new Transport(options.transport);
    this.pulls = new SharedFlight(options.log);
    this.parts = {
      root: options.root,
      content,
      partials,
      layers,
      blobLocks: new KeyedLock(),
      sound: (ctx, layer) => this.healer.verified(ctx, layer.key),
      keepLayerBlobs: options.keepLayerBlobs ?? false,
      allowForeignLayers: options.allowForeignLayers ?? false,
      layerFlights: new SharedFlight(options.log),
      slots: new Slots(options.maxConcurrentDownloads ?? 6),
    };
  }

  /** What goes on by itself from the beginning. */
  async start(): Promise<void> {
    await this.collect('old');
    await this.reserve.fill();
    this.healer.lookAtAll(Context.of(this.options.log, { signal: this.ended.signal }));
  }

  /**
   * Brings the image of this name here and gives it the name; resolves once both
   * are on disk. Pulls of the same name and platform with the same credentials are one pull,
   * which ends early only when everybody who asked has gone.
   */
  async pull(
    ctx: Context,
    text: string,
    { auth, onProgress = () => undefined, askedBy, runtimeHandler = '', platform = this.node }: PullOptions = {},
  ): Promise<PulledImage> {
    const reference = parseReference(text);
    ctx.stage(`pull ${canonicalForm(reference)}`);
    const kept = await this.usesKept(askedBy);
    const key = pullKey(reference, platform, auth, kept);
    for (const event of this.progress.get(key)?.values() ?? []) onProgress(event);
    if (askedBy) this.entries.get(key)?.askedBy(askedBy);
    return this.pulls.join(ctx, key, onProgress, (own, emit) =>
      this.book.during(own, { reference: canonicalForm(reference), operation: 'pull' }, async entry => {
        const latest = new Map<Digest, LayerProgress>();
        this.progress.set(key, latest);
        this.entries.set(key, entry);
        if (askedBy) entry.askedBy(askedBy);
        using _ended = {
          [Symbol.dispose]: () => {
            if (this.progress.get(key) === latest) this.progress.delete(key);
            if (this.entries.get(key) === entry) this.entries.delete(key);
          },
        };
        const source = await this.registry(reference, auth, kept);
        const which = wanted(reference);
        const repository = repositoryForm(reference);
        return await this.bring(own, { source, repository, reference, which, platform }, runtimeHandler, event => {
          latest.set(event.layer, event);
          entry.take(event);
          emit(event);
        });
      }),
    );
  }

  /** What a pull would ask, in which order, and what it would be told. */
  async explain(ctx: Context, text: string, auth?: RegistryAuth): Promise<EndpointReport[]> {
    return explainPull(ctx, parseReference(text), auth, this.registryOptions());
  }

  /**
   * Whether a pull may use the node's own credentials. What a person has logged in with is not for the pods of everybody:
   * a kubelet, which brings its own, gets them only where the configuration names the file.
   */
  private async usesKept(askedBy: Asker | undefined): Promise<boolean> {
    const { dockerConfig } = this.options;
    if (!dockerConfig || (askedBy === 'cri' && dockerConfig.file === 'auto')) return false;
    return storesCredentials(dockerConfig);
  }

  private registryOptions(usesKept = true): RegistryOptions {
    const { hostsDir, plainHttp = [], retryDelayMs, dockerConfig } = this.options;
    return {
      transport: this.transport,
      hostsDir,
      plainHttp,
      ...(dockerConfig && usesKept ? { storedFor: host => storedAuth(host, dockerConfig) } : {}),
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
    const digest = await resolveLayout(source, this.node, path);
    return this.bring(
      ctx,
      { source, repository: undefined, reference, which: digest, platform: this.node },
      '',
      onProgress,
    );
  }

  /** Takes the images of an archive, each with the names that the archive has for it; `onImage` is told of each. */
  async load(
    ctx: Context,
    request: LoadRequest,
    onImage: (image: PulledImage, names: readonly string[]) => Promise<void>,
    onProgress: OnProgress = () => undefined,
  ): Promise<void> {
    await loadArchive(ctx, this.incoming, this.node, request, async offered => {
      const image = await this.adopt(ctx, offered, 'load', request.what, onProgress);
      await onImage(image, offered.names.map(canonicalForm));
    });
  }

  /** Makes an image of a file system in a tar; its layer's blob is kept, since no registry has it. */
  async importFileSystem(
    ctx: Context,
    request: { chunks: Chunks; what: string; name?: string; changes: readonly string[]; message: string },
    onProgress: OnProgress = () => undefined,
  ): Promise<PulledImage> {
    const { chunks, what, name, changes, message } = request;
    const names = name === undefined ? [] : [givenName(name)];
    const about = { node: this.node, config: configOf(changes), message, createdAtMs: Date.now() };
    return this.incoming.during(async dir => {
      const { layer, ...made } = await fileSystemImage(ctx, dir, chunks, what, about);
      return this.adopt(ctx, { ...made, names }, 'import', what, onProgress, layer);
    });
  }

  /** Lends what building needs. What is made with it, or found by it, stays as long as `work` is under way. */
  async build<T>(work: (workshop: Workshop) => Promise<T>): Promise<T> {
    const withPins = (dir: string) =>
      this.pins.during(pin =>
        work(
          new Workshop(
            { ...this.parts, platform: this.node, transport: this.transport },
            dir,
            pin,
            (tags, images, others) => this.recordBuilt(tags, images, others),
          ),
        ),
      );
    // Afterwards go, besides, the documents of an image that got no record.
    return this.incoming.answeringFirst(withPins, () => this.tidy(undefined));
  }

  /** What others have left at a place that is no image; nothing of it is trusted. */
  readArtefact(ctx: Context, place: ArtefactPlace, rules: ArtefactRules, platform: Platform): Promise<Artefact> {
    return readArtefact(ctx, place, rules, platform, reference => this.registry(reference, undefined));
  }

  /** Writes what a workshop has made, while that is open; with the node's own credentials for a registry. */
  async writeArtefact(ctx: Context, place: ArtefactPlace, artefact: NewArtefact): Promise<void> {
    if ('directory' in place) {
      ctx.stage(`wait for other builds that write to ${place.directory}`);
      using _turn = await this.layouts.turn(ctx, place.directory);
      ctx.stage(`write to ${place.directory}`);
      return await writeToLayout(ctx, this.content, place.directory, place.which, artefact);
    }
    const target = givenName(place.reference);
    const client = await RegistryClient.open(target, undefined, this.registryOptions(), 'push');
    await pushArtefact(ctx, this.content, target, new Uploads(client, this.options.retryDelayMs), artefact);
  }

  /** What a base image is made of, once all of its layers are sound. */
  async base(ctx: Context, workshop: Workshop, image: Image): Promise<BaseImage> {
    await this.ready(ctx, image);
    const record = this.records.get(image.id);
    if (record) return workshop.base(record);
    throw new BerthError('not_found', `image ${image.id} is not here any more`, { hint: 'pull it again' });
  }

  /**
   * Reads the manifests of some of an image's layers, counted from 0, the base; none named: of all. The layers stay as long
   * as that takes. `send` says when it takes more.
   */
  async readManifests(
    ctx: Context,
    image: Image,
    which: readonly number[],
    send: (layer: number, piece: Buffer) => Promise<void>,
  ): Promise<void> {
    ctx.stage(`read the manifests of image ${image.id}`);
    await this.pins.during(async pin => {
      for (const { key } of image.layers) pin(key);
      for (const number of which.length > 0 ? which : image.layers.keys()) {
        const layer = this.layers.get(image.layers[number]?.key ?? '');
        if (!layer) throw new BerthError('invalid_argument', `image ${image.id} has no layer ${number}`);
        await readManifest(layer, piece => send(number, piece));
      }
    });
  }

  /** A person's images, which the kubelet does not collect; without `tags` only what they are made of is recorded. */
  private async recordBuilt(
    tags: readonly string[] | undefined,
    images: readonly FetchedImage[],
    others: readonly Layer[],
  ): Promise<void> {
    await this.options.store.transaction(() => {
      this.layers.record([...images.flatMap(({ layers }) => layers), ...others]);
      if (tags === undefined) return;
      const ids = images.map(({ id }) => id);
      this.moveTags(ids, tags);
      for (const image of images) {
        const record = merged(this.records.get(image.id), image, { tags, digests: [], runtimeHandler: '' });
        void this.records.put(record.id, { ...record, pinned: true });
      }
    });
    await this.options.store.flushed();
    crashPoint('build.recorded');
  }

  /**
   * Writes the images of these names, whole, as an archive: into a directory, or piece by piece to `send`. An image that
   * is named by a tag has this tag in it, one that is named otherwise has none. With `only` it is of each name the image for
   * that platform.
   */
  async save(
    ctx: Context,
    names: readonly string[],
    to: { readonly directory: string } | { readonly send: (bytes: Buffer) => Promise<void> },
    onProgress: OnProgress = () => undefined,
    only?: Platform,
  ): Promise<void> {
    await this.saveAs(ctx, await this.saved(names, only), to, onProgress);
  }

  /** Writes what a workshop has made as an archive, under these tags, in full; it needs no record and gets none. */
  async saveBuilt(
    ctx: Context,
    { images }: Finished,
    tags: readonly string[],
    send: (bytes: Buffer) => Promise<void>,
    onProgress: OnProgress,
  ): Promise<void> {
    const records = images.map(image => merged(undefined, image, { tags, digests: [], runtimeHandler: '' }));
    await this.saveAs(ctx, [await this.bundle(records, tags)], { send }, onProgress);
  }

  /** What a name leads to: an image, or the images of an index that is here as a whole. */
  private async bundle(records: readonly ImageRecord[], tags: readonly string[]): Promise<Bundle> {
    const [first] = rankedPlatforms(records, ({ config }) => config, this.node);
    return bundleOf(this.content, [...(first ? [first] : []), ...records.filter(record => record !== first)], tags);
  }

  private exportParts(): ExportParts {
    return {
      content: this.content,
      registryOf: place => this.registry(parseReference(place), undefined),
      repositoryOf: digest => this.layers.list().find(({ blob }) => blob?.digest === digest)?.blob?.repository,
    };
  }

  private async saveAs(
    ctx: Context,
    saved: readonly Bundle[],
    to: { readonly directory: string } | { readonly send: (bytes: Buffer) => Promise<void> },
    onProgress: OnProgress,
  ): Promise<void> {
    await this.pins.during(async pin => {
      for (const { images } of saved)
        for (const { record } of images) for (const { digest } of record.content) pin(digest);
      await this.incoming.during(async dir => {
        const output = 'send' in to ? new TarOutput(to.send) : await DirectoryOutput.open(to.directory);
        await saveImages(this.exportParts(), ctx, saved, dir, output, onProgress);
      });
    });
  }

  /**
   * Brings an image to the registry of its name, a tag: with the request's credentials, else the node's own for that host.
   * The image then has the registry's digest as one more name. A name of images for several platforms brings them all, if
   * their whole index is here, else the node's: then `leftOut` says how many are not pushed. With `only` it is the image for
   * that platform.
   */
  async push(
    ctx: Context,
    text: string,
    auth?: RegistryAuth,
    onProgress: (event: PushProgress) => void = () => undefined,
    only?: Platform,
  ): Promise<PushedImage & { reference: string; platforms: string[]; leftOut: number }> {
    const target = givenName(text);
    const reference = canonicalForm(target);
    return this.pins.during(async pin => {
      const named = this.meant(reference);
      if (named.length === 0)
        throw new BerthError('not_found', `no image is called ${reference}`, { hint: 'tag it first' });
      const records = only ? [theOneFor(named, only, reference)] : named;
      for (const { content } of records) for (const { digest } of content) pin(digest);
      const bundle = await this.bundle(records, [reference]);
      return this.incoming.during(async dir => {
        const client = await RegistryClient.open(target, auth, this.registryOptions(), 'push');
        const uploads = new Uploads(client, this.options.retryDelayMs);
        const parts = this.exportParts();
        const pushed = await pushImage(parts, ctx, bundle, target, uploads, dir, onProgress);
        for (const { record } of bundle.images) {
          await this.addDigest(record.id, digestForm(target, pushed.digest));
          this.tell(record.id, 'push', [reference]);
        }
        const platforms = bundle.images.map(({ record }) => describePlatform(record.config));
        return { ...pushed, reference, platforms, leftOut: records.length - bundle.images.length };
      });
    });
  }

  /** Asks a registry whether it knows a login, and keeps it for this node's people. Says where it is kept. */
  async login(ctx: Context, server: string, login: Login): Promise<string> {
    const host = parseHost(server);
    ctx.stage(`log in to ${host}`);
    const client = await RegistryClient.open(
      { host, repository: 'login' },
      login,
      this.registryOptions(false),
      'login',
    );
    await client.checkLogin(ctx);
    return keepLogin(host, login, this.keptLogins());
  }

  /** Forgets a login; false when none was kept. */
  async logout(server: string): Promise<boolean> {
    return forgetLogin(parseHost(server), this.keptLogins());
  }

  private keptLogins(): DockerConfigOptions {
    return this.options.dockerConfig ?? { file: 'none', helperDirs: [] };
  }

  private async addDigest(id: Digest, digest: string): Promise<void> {
    await this.options.store.transaction(() => {
      const found = this.records.get(id);
      if (!found || found.digests.includes(digest)) return;
      void this.records.put(id, { ...found, digests: [...found.digests, digest] });
    });
  }

  /**
   * Gives an image one more name, and of a name that several have, one for each platform, all of them; another image that
   * had it loses it. Returns the name in full.
   */
  async tag(refOrId: string, name: string): Promise<string> {
    const tag = canonicalForm(givenName(name));
    const { ids, moved } = await this.options.store.transaction(() => {
      const found = this.meant(refOrId);
      if (found.length === 0) throw new BerthError('not_found', `no image is called ${JSON.stringify(refOrId)}`);
      const ids = found.map(({ id }) => id);
      const moved = this.moveTags(ids, [tag]);
      for (const record of found)
        void this.records.put(record.id, { ...record, tags: [...new Set([...record.tags, tag])] });
      return { ids, moved };
    });
    this.tellMoved(moved);
    for (const id of ids) this.tell(id, 'tag', [tag]);
    return tag;
  }

  /**
   * By name, by id, or by the beginning of an id; undefined when there is none, `invalid_argument` when there are several.
   * A name that images for several platforms have is that of the node's, else of any of them; with `only`, a name means an
   * image for that platform, and an id whatever it is for.
   */
  find(refOrId: string, only?: Platform): Image | undefined {
    const record = this.findRecord(refOrId, only);
    return record && this.toImage(record);
  }

  /** Those that a name means, one for each of its platforms that are here; by an id the one. */
  findAll(refOrId: string): Image[] {
    return this.meant(refOrId).map(record => this.toImage(record));
  }

  private findRecord(refOrId: string, only?: Platform): ImageRecord | undefined {
    const preference = { platform: only ?? this.node, only: only !== undefined };
    return findImage(this.records.list(), refOrId, preference);
  }

  private meant(refOrId: string): ImageRecord[] {
    const found = this.findRecord(refOrId);
    if (!found) return [];
    const named = imagesNamed(this.records.list(), refOrId);
    return named.some(({ id }) => id === found.id) ? named : [found];
  }

  list(): Image[] {
    return this.records.list().map(record => this.toImage(record));
  }

  /**
   * What an overlay of this image stands on: `lowerdir`s, top first. `not_found` when the image was removed since it was
   * found and nothing has kept its layers: never an image with some of them.
   */
  lowerDirs(image: Image): string[] {
    const layers = image.layers.flatMap(({ key }) => this.layers.get(key) ?? []);
    if (layers.length === image.config.diffIds.length) return this.layers.lowerDirs(layers);
    throw new BerthError('not_found', `image ${image.id} was removed meanwhile`, { hint: 'pull it again' });
  }

  /** As `lowerDirs`, of an image that is mounted read-only: for an overlay, which takes two at least then, also of one layer. */
  readOnlyDirs(image: Image): string[] {
    const dirs = this.lowerDirs(image);
    return dirs.length === 1 ? [...new Set([...dirs, ...this.layers.lowerDirs([])])] : dirs;
  }

  /**
   * Removes the image with all its names, with `only` the one for that platform; layers that containers stand on stay until
   * they are gone. No image is no error.
   */
  async remove(refOrId: string, only?: Platform): Promise<void> {
    const found = this.findRecord(refOrId, only);
    if (!found) return;
    await this.reserve.spend(() => this.records.remove(found.id));
    crashPoint('remove.unrecorded');
    this.tellRemoved(found);
    await this.freed();
    crashPoint('remove.collected');
  }

  /** Takes one name away; an image goes with its last tag. `not_found` when no image has the name. */
  async untag(text: string): Promise<void> {
    const reference = parseReference(text);
    const name = canonicalForm(reference);
    const left = await this.reserve.spend(() =>
      this.options.store.transaction(() => {
        const found = this.records.list().filter(({ tags, digests }) => tags.includes(name) || digests.includes(name));
        if (found.length === 0) throw new BerthError('not_found', `no image is called ${name}`);
        const left = found.map(record => withoutName(record, name));
        for (const record of left) {
          if (record.tags.length === 0) void this.records.remove(record.id);
          else void this.records.put(record.id, record);
        }
        return left;
      }),
    );
    for (const { id, tags } of left) {
      this.tell(id, 'untag', [name]);
      if (tags.length === 0) this.tell(id, 'delete');
    }
    await this.freed();
  }

  /** Marks an image as one that the kubelet must not collect. */
  async setPinned(id: Digest, pinned: boolean): Promise<void> {
    await this.options.store.transaction(() => {
      const found = this.records.get(id);
      if (!found) throw new BerthError('not_found', `there is no image ${id}`);
      void this.records.put(id, { ...found, pinned });
    });
  }

  /** Resolves once all layers of the image are as they were unpacked; fetches those again that are not, or throws `data_loss`. */
  async ready(ctx: Context, image: Image): Promise<void> {
    await Promise.all(image.layers.map(({ key }) => this.healer.ensure(ctx, key)));
  }

  /** Looks at everything that images have on the disk; the layers' files with all their bytes. */
  check(ctx: Context, options: CheckOptions): Check {
    return checkStore(
      {
        ...this.collected(),
        usage: () => this.usage(),
        verify: async layer => this.healer.look(ctx, layer),
        refetchLayer: key => this.healer.replace(ctx, key),
        refetchDocument: (record, digest) =>
          fetchDocumentAgain(ctx, record, digest, this.content, reference => this.registry(reference, undefined)),
        sweep: () => this.collect('all'),
      },
      ctx,
      options,
    );
  }

  /**
   * Removes the images of these ids with all their names, and says which names those were and what that frees on the
   * disk: layers that other images share stay, and count for nothing.
   */
  async prune(ids: readonly Digest[]): Promise<{ untagged: string[]; freedBytes: bigint }> {
    const before = this.space('kept').usedBytes;
    const found = ids.flatMap(id => this.records.get(id) ?? []);
    for (const record of found) {
      await this.reserve.spend(() => this.records.remove(record.id));
      this.tellRemoved(record);
    }
    await this.freed();
    const freed = before - this.space('kept').usedBytes; // less than nothing where a pull has brought more meanwhile
    return { untagged: found.flatMap(({ tags }) => tags), freedBytes: freed > 0n ? freed : 0n };
  }

  /** What images take on the disk, from what was counted while unpacking; what is being deleted counts until it is gone. */
  usage(): { usedBytes: bigint; inodesUsed: bigint } {
    return this.space('all');
  }

  /** What is on its way takes besides: the beginnings of layers, of pulls under way and of those that broke off. */
  async usageOfBeginnings(): Promise<{ usedBytes: bigint; inodesUsed: bigint }> {
    const begun = await this.partials.list();
    const bytes = begun.reduce((sum, { sizeBytes }) => sum + Math.ceil(sizeBytes / 4096) * 4096, 0);
    return { usedBytes: BigInt(bytes), inodesUsed: BigInt(begun.length) };
  }

  /** The same without what is being deleted. */
  keptBytes(): bigint {
    return this.space('kept').usedBytes;
  }

  private space(which: 'all' | 'kept'): { usedBytes: bigint; inodesUsed: bigint } {
    const { bytes, inodes } = this.layers.usage(which);
    const blobs = new Map(
      this.records.list().flatMap(({ content }) => content.map(blob => [blob.digest, blob.sizeBytes])),
    );
    const blobBytes = [...blobs.values()].reduce((sum, size) => sum + Math.ceil(size / 4096) * 4096, 0);
    return { usedBytes: BigInt(bytes + blobBytes), inodesUsed: BigInt(inodes + blobs.size) };
  }

  /** Removes layers and documents that nothing needs any more; call it when a container is gone. */
  async collect(leftovers: 'all' | 'old' = 'old'): Promise<void> {
    await collectUnused(this.collected(), leftovers);
  }

  /** Something was removed, perhaps because the disk is full: what was left behind goes, too, and the reserve is made anew. */
  private async freed(): Promise<void> {
    await this.reserve.spend(() => this.collect('all'));
    void this.layers.settled().then(() => this.reserve.fill());
  }

  private tell(id: Digest, action: string, names: readonly string[] = []): void {
    if (names.length === 0) this.events.emit({ type: 'image', action, id });
    for (const name of names) this.events.emit({ type: 'image', action, id, attributes: { name } });
  }

  private tellMoved(moved: readonly Moved[]): void {
    for (const { id, tags } of moved) this.tell(id, 'untag', tags);
  }

  private tellRemoved({ id, tags }: ImageRecord): void {
    if (tags.length > 0) this.tell(id, 'untag', tags);
    this.tell(id, 'delete');
  }

  private collected(): Collected {
    const { layers, content, partials, pins, options } = this;
    return { records: () => this.records.list(), layers, content, partials, pins, layersInUse: options.layersInUse };
  }

  private registry(reference: Reference, auth: RegistryAuth | undefined, usesKept = true): Promise<RegistryClient> {
    return RegistryClient.open(reference, auth, this.registryOptions(usesKept));
  }

  private async refetchLayer(ctx: Context, key: string): Promise<void> {
    const lower = (keys: readonly string[]) => Promise.all(keys.map(below => this.healer.ensure(ctx, below)));
    await fetchLayerAgain(this.parts, ctx, key, this.records.list(), lower, reference =>
      this.registry(reference, undefined),
    );
    await this.sweepReplaced();
  }

  /** The files of a damaged layer that has been replaced, unless a container stands on them. */
  private async sweepReplaced(): Promise<void> {
    if (this.layers.hasReplaced) await this.tidy(undefined);
  }

  /** Waits for what goes on by itself, and closes connections. Pulls must have ended. */
  async close(): Promise<void> {
    this.ended.abort();
    await this.pulls.settled();
    await this.healer.settled();
    await this.incoming.settled();
    await this.parts.layerFlights.settled();
    await this.layers.settled();
    await this.transport.close();
    await syncFileSystem(this.options.root);
    await this.options.store.flushed();
    this.boot.end();
  }

  /**
   * After a failure the documents go at once; what there is of layers waits for the next try, but for a full disk,
   * which has better uses for the space.
   */
  private async bring(...args: Parameters<Images['fetchAndName']>): Promise<PulledImage> {
    try {
      return await this.fetchAndName(...args);
    } catch (error) {
      await this.tidy(error);
      throw asDiskFull(error, `pull ${canonicalForm(args[1].reference)}`);
    }
  }

  private async tidy(failure: unknown): Promise<void> {
    try {
      await this.collect(isFull(failure) ? 'all' : 'old');
    } catch (error) {
      this.options.log.warn(`could not tidy up: ${messageOf(error)}`);
    }
  }

  private async fetchAndName(
    ctx: Context,
    asked: Wanted,
    runtimeHandler: string,
    onProgress: OnProgress,
  ): Promise<PulledImage> {
    return this.pins.during(async pin => {
      const fetched = await fetchImage(this.parts, ctx, asked, pin, onProgress);
      const tag = tagForm(asked.reference);
      const digests = [digestForm(asked.reference, fetched.digest)];
      const action = asked.repository === undefined ? 'import' : 'pull';
      return this.named(action, { tags: tag === undefined ? [] : [tag], digests, runtimeHandler }, fetched);
    });
  }

  /** Takes an image that an archive offers; `kept` is a layer whose blob stays, a file that is given away. */
  private async adopt(
    ctx: Context,
    { source, digest, names, isOriginal, platform = this.node }: ArchiveImage,
    operation: 'load' | 'import',
    what: string,
    onProgress: OnProgress,
    kept?: { digest: Digest; sizeBytes: number; path: string },
  ): Promise<PulledImage> {
    const [first] = names;
    const own: Reference = first ?? { host: operation, repository: 'image', digest };
    const shown = first ? canonicalForm(first) : what;
    return this.book.during(ctx, { reference: shown, operation }, async entry => {
      entry.askedBy('person');
      try {
        return await this.pins.during(async pin => {
          if (kept) pin(kept.digest);
          const progress: OnProgress = event => {
            entry.take(event);
            onProgress(event);
          };
          // No registry may have its layers: as they came they can be pushed and saved.
          const fetched = await fetchImage(
            { ...this.parts, keepLayerBlobs: true },
            ctx,
            { source, repository: undefined, reference: own, which: digest, platform },
            pin,
            progress,
          );
          if (kept) await this.content.adopt(kept.digest, kept.path);
          crashPoint('import.blob-adopted');
          const tags = names.map(canonicalForm);
          const digests = isOriginal ? names.map(name => digestForm(name, fetched.digest)) : [];
          return this.named(
            operation,
            { tags, digests, runtimeHandler: '' },
            kept ? { ...fetched, content: [...fetched.content, kept] } : fetched,
          );
        });
      } catch (error) {
        await this.tidy(error);
        throw ofArchive(asDiskFull(error, what), what);
      }
    });
  }

  private async named(action: string, names: Names, fetched: FetchedImage): Promise<PulledImage> {
    const { record, moved } = await this.name(names, fetched);
    crashPoint('pull.recorded');
    await this.options.store.flushed();
    crashPoint('pull.flushed');
    this.tellMoved(moved);
    this.tell(record.id, action, names.tags.length > 0 ? names.tags : names.digests);
    await this.sweepReplaced();
    return { ...this.toImage(record), digest: fetched.digest };
  }

  /** Once each, with the tags that were written; a name of images for several platforms is all of them. */
  private async saved(names: readonly string[], only: Platform | undefined): Promise<Bundle[]> {
    const found = new Map<string, { records: ImageRecord[]; tags: string[] }>();
    for (const name of names) {
      const named = this.meant(name);
      const records = only && named.length > 0 ? [theOneFor(named, only, name)] : named;
      const [record] = records;
      if (!record) throw new BerthError('not_found', `no image is called ${JSON.stringify(name)}`);
      const key = records.map(({ id }) => id).join(' ');
      const entry = found.get(key) ?? { records, tags: [] };
      const tag = tagIn(record, name);
      if (tag !== undefined && !entry.tags.includes(tag)) entry.tags.push(tag);
      found.set(key, entry);
    }
    return Promise.all([...found.values()].map(({ records, tags }) => this.bundle(records, tags)));
  }

  /** Writes the records, all or none. A tag that another image had moves to this one, or both have it: see `sharing`. */
  private name(names: Names, fetched: FetchedImage): Promise<{ record: ImageRecord; moved: Moved[] }> {
    return this.options.store.transaction(() => {
      const moved = this.moveTags([fetched.id, ...this.sharing(fetched)], names.tags);
      const record = merged(this.records.get(fetched.id), fetched, names);
      this.layers.record(fetched.layers);
      void this.records.put(record.id, record);
      return { record, moved };
    });
  }

  /**
   * Those that keep a tag when an image for another platform gets it: what the same index led to, and in any case the node's
   * own, which the kubelet knows by this name.
   */
  private sharing({ digest, config: own }: FetchedImage): Digest[] {
    const isForeign = !fits(own, this.node);
    return this.records
      .list()
      .filter(({ config }) => describePlatform(config) !== describePlatform(own))
      .filter(
        ({ config, content }) =>
          (isForeign && fits(config, this.node)) || content.some(document => document.digest === digest),
      )
      .map(({ id }) => id);
  }

  /** Within a transaction. Whose they were. */
  private moveTags(to: readonly Digest[], tags: readonly string[]): Moved[] {
    const moved: Moved[] = [];
    for (const other of this.records.list()) {
      const lost = tags.filter(tag => other.tags.includes(tag));
      if (to.includes(other.id) || lost.length === 0) continue;
      void this.records.put(other.id, lost.reduce(withoutName, other));
      moved.push({ id: other.id, tags: lost });
    }
    return moved;
  }

  private toImage(record: ImageRecord): Image {
    const layers = record.layerKeys.flatMap(key => {
      const layer = this.layers.get(key);
      if (!layer) return [];
      const { dir, diffId, diskBytes, state, blob } = layer;
      return [{ key, dir, diffId, sizeBytes: diskBytes, state, digest: blob?.digest }];
    });
    const bytes = [...layers, ...record.content].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const { id, tags, digests, config, pinned, runtimeHandler } = record;
    return { id, tags, digests, config, layers, pinned, runtimeHandler, sizeBytes: BigInt(bytes) };
  }
}

/** Of images that are called `name` the best for a platform. */
function theOneFor(named: readonly ImageRecord[], platform: Platform, name: string): ImageRecord {
  const [best] = rankedPlatforms(named, ({ config }) => config, platform);
  if (best) return best;
  throw notFor(named.map(({ config }) => describePlatform(config)).sort(), platform, `image ${name}`);
}

/** Tags that an image had and another has now. */
interface Moved {
  readonly id: Digest;
  readonly tags: readonly string[];
}

interface Names {
  readonly tags: readonly string[];
  readonly digests: readonly string[];
  readonly runtimeHandler: string;
}

function merged(before: ImageRecord | undefined, fetched: FetchedImage, names: Names): ImageRecord {
  const content = new Map(
    [...(before?.content ?? []), ...fetched.content].map(({ digest, sizeBytes }) => [digest, { digest, sizeBytes }]),
  );
  return {
    version: 2,
    id: fetched.id,
    tags: [...new Set([...(before?.tags ?? []), ...names.tags])],
    digests: [...new Set([...(before?.digests ?? []), ...names.digests])],
    config: fetched.config,
    layerKeys: fetched.layers.map(layer => layer.key),
    runtimeHandler: names.runtimeHandler,
    content: [...content.values()],
    pinned: before?.pinned ?? false,
  };
}

/** A full disk has many words; the one who asked hears the same. */
function asDiskFull(error: unknown, what: string): unknown {
  if (error instanceof BerthError || !isFull(error)) return error;
  return new BerthError('resource_exhausted', `${what}: no space left on device`, {
    cause: error,
    hint: 'free some space and pull again',
  });
}

/** The tag of the image that `text` is; undefined for an id or a digest. */
function tagIn(record: ImageRecord, text: string): string | undefined {
  try {
    const tag = tagForm(parseReference(text));
    return record.tags.find(other => other === tag);
  } catch {
    return undefined; // ids are no references
  }
}

/** What unpacking says is meant for images of registries. */
function ofArchive(error: unknown, what: string): unknown {
  if (!(error instanceof BerthError) || error.kind === 'cancelled') return error;
  const { kind, message, hint } = error;
  const why = hint === undefined ? message : message.slice(0, -`; ${hint}`.length);
  const own = kind === 'data_loss' ? 'the archive is damaged or was changed; save it again' : hint;
  return new BerthError(kind, `${what}: ${why.replace(/^pull \S+: /, '')}`, {
    cause: error,
    ...(own === undefined ? {} : { hint: own }),
  });
}

/** Credentials are part of it: who may not see an image must not ride along with one who may. */
function pullKey(reference: Reference, platform: Platform, auth: RegistryAuth | undefined, usesKept: boolean): string {
  const secret =
    auth === undefined
      ? ''
      : createHash('sha256')
          .update(JSON.stringify(Object.entries(auth).sort()))
          .digest('hex');
  return `${canonicalForm(reference)} ${describePlatform(platform)} ${secret}${usesKept ? ' kept' : ''}`;
}
