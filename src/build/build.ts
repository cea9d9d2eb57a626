import { anySignal } from '../base/any-signal';
import { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { Ulimit } from '../cri/generated/berth/v1/run';
import type { ArtefactPlace } from '../image/artefact';
import type { Digest } from '../image/digest';
import type { Chunks } from '../image/incoming';
import type { OnProgress } from '../image/images';
import { notFor } from '../image/documents';
import { describePlatform, fits, parsePlatform, type Platform } from '../image/platform';
import type { BuiltLayer, SentFiles, Source, Finished, Workshop } from '../image/workshop';
import { keyOf, type Inputs, type Lookup } from './cache';
import type { SharedResult } from './cache-document';
import { exportCache, StepResults, withInlineCache, type CacheExport } from './cache-export';
import { CacheSources } from './cache-sources';
import { documentOf, emptyDocument, type ImageDocument } from './document';
import { DockerfileError } from './dockerfile/error';
import { parseDockerfile, parseTrigger, type Command, type Dockerfile, type Stage } from './dockerfile/parse';
import { indexOf, planBuild, type Plan, type PlannedStage, type StageBase } from './plan';
import { Reporter, type BuildEvent } from './reporter';
import { StepFailed } from './run-step';
import { GlobalScope, platformArgs, StageScope } from './scope';
import { applyCommand, stepName } from './stage';
import type { BuildParts, StageState, StepTools } from './steps';

export type { BuildEvent } from './reporter';
export type { BuildParts } from './steps';

export interface BuildOptions {
  readonly dockerfile: string;
  /** For messages. */
  readonly dockerfileName: string;
  /** In full. */
  readonly tags: readonly string[];
  readonly target?: string;
  readonly buildArgs: ReadonlyMap<string, string>;
  readonly labels: ReadonlyMap<string, string>;
  /** True for all steps, or the names of stages. */
  readonly noCache: boolean | readonly string[];
  readonly pull: boolean;
  /** None is the node's. Of several each is built, and what comes of them is an index. */
  readonly platforms: readonly Platform[];
  readonly secrets: ReadonlyMap<string, Uint8Array>;
  readonly ssh: ReadonlyMap<string, string>;
  /** The keys of hosts that are spoken to by ssh, as lines of a known_hosts. */
  readonly knownHosts: Uint8Array;
  readonly network: string;
  /** Of the processes of RUN, over the node's own. */
  readonly ulimits: readonly Ulimit[];
  readonly epochSeconds?: number;
  /** Names for FROM and --from, and the images that they mean. */
  readonly contexts: ReadonlyMap<string, string>;
  readonly why: boolean;
  /** Caches that count besides the node's own. */
  readonly cacheFrom: readonly ArtefactPlace[];
  readonly cacheTo: readonly CacheExport[];
  /** The image's config has the results that the image is made of. */
  readonly cacheInline: boolean;
  /** An image in the store; or one as an archive, or its files as a tar, which is sent. */
  readonly output: { readonly type: 'image' | 'none' } | { readonly type: 'archive' | 'files'; readonly send: Send };
}

type Send = (bytes: Buffer) => Promise<void>;

export interface Built {
  /** Absent where the output is no image. Of several the node's, or the first; the digest is then that of the index. */
  readonly image?: { readonly id: Digest; readonly manifestDigest: Digest };
}

/**
 * Builds an image: reads the Dockerfile, finds the stages that the target needs, and carries them out side by side where
 * they do not need one another. The image has its names once everything is on disk; whatever ends the build before,
 * nothing of it stays but what its finished steps have left in the cache.
 */
export async function buildImage(
  parts: BuildParts,
  ctx: Context,
  options: BuildOptions,
  context: Chunks,
  report: (event: BuildEvent) => Promise<void>,
): Promise<Built> {
  try {
    ctx.stage('read the Dockerfile');
    const dockerfile = parseDockerfile(options.dockerfile);
    const reporter = new Reporter(report);
    for (const warning of dockerfile.warnings) reporter.warn(warning);
    for (const warning of parts.containers.rlimits.shortfalls(options.ulimits)) reporter.warn(warning);
    if (options.platforms.length > 1 && options.output.type === 'files') throw severalTrees(options.platforms);
    return await parts.images.build(workshop =>
      buildPlatforms({ parts, options, workshop, dockerfile, reporter }, ctx, context),
    );
  } catch (error) {
    throw located(error, options);
  }
}

/** The lines that are wrong, in the error. */
function located(error: unknown, { dockerfile, dockerfileName }: BuildOptions): unknown {
  if (!(error instanceof DockerfileError)) return error;
  const { place, message } = error;
  const [line = ''] = dockerfile.split('\n').slice(place.line - 1);
  return new BerthError(
    'invalid_argument',
    `${dockerfileName}:${place.line}: ${line.trim().slice(0, 200)}: ${message}`,
    {
      cause: error,
    },
  );
}

function severalTrees(platforms: readonly Platform[]): BerthError {
  return new BerthError(
    'invalid_argument',
    `an output of files is of one platform, and ${platforms.map(describePlatform).join(' and ')} are asked for`,
    { hint: 'build them one by one, or with --output type=oci' },
  );
}

interface StageResult {
  readonly document: ImageDocument;
  readonly layers: readonly BuiltLayer[];
}

interface Given {
  readonly parts: BuildParts;
  readonly options: BuildOptions;
  readonly workshop: Workshop;
  readonly dockerfile: Dockerfile;
  readonly reporter: Reporter;
}

/** What the builds for all platforms have in common. */
interface Shared extends Given {
  readonly platforms: readonly Platform[];
  /** Ends with `failed`. */
  readonly ctx: Context;
  readonly failed: AbortController;
  readonly sources: CacheSources;
}

/** Builds for one platform after the other, so that each finds in the cache what it has in common with those before. */
async function buildPlatforms(given: Given, outer: Context, context: Chunks): Promise<Built> {
  const { parts, options, workshop, reporter } = given;
  const failed = new AbortController();
  const ctx = Context.of(outer.log, { signal: anySignal([outer.signal, failed.signal]) });
  const platforms = options.platforms.length > 0 ? options.platforms : [workshop.platform];
  const sources = new CacheSources(parts.images, workshop, options.cacheFrom, reporter);
  const shared: Shared = { ...given, platforms, ctx, failed, sources };
  const builds = platforms.map(platform => new Build(shared, platform));
  // The client may have stopped sending while the build has failed already.
  const received = workshop.receive(ctx, () => ctx.race(context()), 'the context');
  received.catch(() => undefined); // whoever needs it hears
  const results: StageResult[] = [];
  for (const build of builds) results.push(await build.run(received));
  for (const to of options.cacheTo) {
    const yielded = builds.flatMap(build => build.yielded(to.all ? 'all' : 'target'));
    await exportCache({ images: parts.images, workshop, reporter }, ctx, to, yielded);
  }
  return put(shared, results);
}

/** Where the results go. */
async function put(
  { parts: { images }, options, workshop, reporter, ctx }: Shared,
  results: readonly StageResult[],
): Promise<Built> {
  const { output, tags, epochSeconds } = options;
  switch (output.type) {
    case 'none':
      return {};
    case 'files':
      for (const { layers } of results) await workshop.fileSystem(ctx, layers, epochSeconds, output.send);
      return {};
    case 'image':
      return builtOf(await workshop.finish(ctx, results, tags));
    case 'archive': {
      const finished = await workshop.finish(ctx, results, undefined);
      await images.saveBuilt(ctx, finished, tags, output.send, event => reporter.pull(event));
      return builtOf(finished);
    }
  }
}

function builtOf({ image, digest }: Finished): Built {
  return { image: { id: image.id, manifestDigest: digest } };
}

/** A build for one platform. */
class Build {
  private readonly globals: GlobalScope;
  private readonly plan: Plan;
  private readonly results = new Map<number, Promise<StageResult>>();
  private readonly images = new Map<string, Promise<StageResult>>();
  private readonly stepResults = new StepResults();
  private context: (() => Promise<SentFiles>) | undefined;

  constructor(
    private readonly shared: Shared,
    private readonly target: Platform,
  ) {
    const { dockerfile, options, workshop } = shared;
    const args = platformArgs(target, workshop.platform);
    this.globals = new GlobalScope(dockerfile.globals, options.buildArgs, args, dockerfile.escape);
    this.plan = planBuild(dockerfile, options.target, this.globals);
    if (typeof options.noCache !== 'boolean') options.noCache.forEach(stage => this.assertStage(stage));
  }

  async run(received: Promise<SentFiles>): Promise<StageResult> {
    this.context = () => received;
    const stages = [...this.plan.stages.keys()].map(index => this.stage(index));
    try {
      await Promise.all([...stages, received]);
    } catch (error) {
      this.shared.failed.abort();
      await Promise.allSettled([...stages, ...this.results.values(), ...this.images.values(), received]);
      throw error;
    }
    const { document, layers } = await this.stage(this.plan.target);
    for (const [name, value] of this.shared.options.labels)
      document.config.Labels = { ...document.config.Labels, [name]: value };
    if (!fits(document, this.target)) this.warnOfPlatform(document);
    return { document: this.shared.options.cacheInline ? this.withCache(document, layers) : document, layers };
  }

  private warnOfPlatform(document: ImageDocument): void {
    this.shared.reporter.warn(
      `the image is for ${describePlatform(document)}, as its last stage says, and not for ${describePlatform(this.target)}`,
    );
  }

  private withCache(document: ImageDocument, layers: readonly BuiltLayer[]): ImageDocument {
    return withInlineCache(document, layers, this.yielded('target'), this.shared.workshop.platform);
  }

  /** What its steps have yielded: of all stages, or of those that the target stands on. */
  yielded(which: 'all' | 'target'): SharedResult[] {
    return this.stepResults.of(which === 'all' ? 'all' : this.stagesOfTarget());
  }

  /** The target, what it is built from, and so on. */
  private stagesOfTarget(): Set<number> {
    const stages = new Set<number>();
    for (let next: StageBase = { kind: 'stage', index: this.plan.target }; next.kind === 'stage';) {
      stages.add(next.index);
      next = this.plan.stages.get(next.index)?.base ?? { kind: 'scratch' };
    }
    return stages;
  }

  /** A stage of the Dockerfile, carried out once. */
  private stage(index: number): Promise<StageResult> {
    const known = this.results.get(index);
    if (known) return known;
    const planned = this.plan.stages.get(index) ?? this.stageOnDemand(index);
    const result = this.carryOut(planned);
    result.catch(() => this.shared.failed.abort());
    this.results.set(index, result);
    return result;
  }

  /** One that only a trigger of a base image names. */
  private stageOnDemand(index: number): PlannedStage {
    const planned = planBuild(this.shared.dockerfile, String(index), this.globals).stages.get(index);
    if (planned) return planned;
    throw new BerthError('internal', `the Dockerfile has no stage ${index}`);
  }

  private async carryOut(planned: PlannedStage): Promise<StageResult> {
    const { stage } = planned;
    const name = nameOf(stage);
    const base = await this.baseOf(planned, name);
    const document = structuredClone(base.document);
    const triggers = document.config.OnBuild ?? [];
    delete document.config.OnBuild;
    const state: StageState = {
      ...{ document, name, hasOwnCommand: false, layers: [...base.layers], createdAtMs: undefined },
      platform: base.document,
      scope: new StageScope(document.config, this.globals, this.shared.dockerfile.escape),
    };
    const commands = [
      ...triggers.map(trigger => parseTrigger(trigger, this.shared.dockerfile.escape, stage)),
      ...stage.commands,
    ];
    for (const [i, command] of commands.entries()) {
      this.shared.ctx.throwIfEnded();
      const title = this.titleOf(name, i + 2, commands.length + 1, command.original);
      await this.step(state, stage.index, command, title);
    }
    return { document, layers: state.layers };
  }

  /** `[linux/arm64 build 2/5] RUN make`; of one platform alone it is not said which. */
  private titleOf(stage: string, number: number, count: number, text: string): string {
    const platform = this.shared.platforms.length > 1 ? `${describePlatform(this.target)} ` : '';
    return `[${platform}${stage} ${number}/${count}] ${text}`;
  }

  private async baseOf({ stage, base, platform: own }: PlannedStage, name: string): Promise<StageResult> {
    if (base.kind === 'stage') return this.stage(base.index);
    const title = this.titleOf(name, 1, stage.commands.length + 1, stage.original);
    const step = this.shared.reporter.begin(title);
    try {
      const platform = own === undefined ? this.target : parsePlatform(own);
      const result =
        base.kind === 'scratch'
          ? { document: emptyDocument(platform), layers: [] }
          : await this.image(base.name, platform);
      step.done();
      return result;
    } catch (error) {
      step.failed();
      if (!(error instanceof BerthError) || error.kind === 'cancelled') throw error;
      throw new BerthError(error.kind, `${this.where(stage.line)}: ${stage.original}: ${error.message}`, {
        cause: error,
      });
    }
  }

  /** An image by name, brought here when it is not, or when the registry shall be asked. */
  private image(name: string, platform: Platform): Promise<StageResult> {
    const key = `${describePlatform(platform)} ${name}`;
    const known = this.images.get(key);
    if (known) return known;
    const result = this.bringImage(this.shared.options.contexts.get(name) ?? name, platform);
    result.catch(() => undefined);
    this.images.set(key, result);
    return result;
  }

  private async bringImage(text: string, platform: Platform): Promise<StageResult> {
    const { parts, ctx, options, reporter, workshop } = this.shared;
    const { images } = parts;
    const name = text.replace(/^docker-image:\/\//, '');
    const onProgress: OnProgress = event => reporter.pull(event);
    if (options.pull || !images.find(name, platform))
      await images.pull(ctx, name, { onProgress, askedBy: 'person', platform });
    const image = images.find(name, platform);
    if (!image) throw new BerthError('not_found', `image ${name} is not here`);
    if (!fits(image.config, platform)) throw notFor([describePlatform(image.config)], platform, `image ${name}`);
    const { config, layers } = await images.base(ctx, workshop, image);
    // The store says what it is for; a variant that the image says of itself may be one that nobody has asked for.
    const { os, architecture, variant } = image.config;
    const { variant: _said, ...document } = documentOf(config, name);
    return { document: { ...document, os, architecture, ...(variant === undefined ? {} : { variant }) }, layers };
  }

  private async step(state: StageState, index: number, command: Command, title: string): Promise<void> {
    const step = this.shared.reporter.begin(title);
    const tools: StepTools = {
      ...{ parts: this.shared.parts, ctx: this.shared.ctx, workshop: this.shared.workshop },
      options: {
        epochSeconds: this.shared.options.epochSeconds,
        network: this.shared.options.network,
        ulimits: this.shared.options.ulimits,
        secrets: this.shared.options.secrets,
        ssh: this.shared.options.ssh,
        knownHosts: this.shared.options.knownHosts,
      },
      context: () =>
        this.context ? this.context() : Promise.reject(new BerthError('internal', 'there is no context')),
      warn: text => this.shared.reporter.warn(`${this.where(command.line)}: ${text}`),
      sourceOf: name => this.sourceOf(index, name),
      output: (stream, data) => step.output(stream, data),
      cached: async (named, make) => {
        const foreign = this.foreignPlatform(state);
        const inputs = this.withEpoch(foreign === undefined ? named : { ...named, 'the platform': foreign });
        const id = stepName(foreign === undefined ? state.name : `${foreign} ${state.name}`, command);
        const found = await this.find(state, id, inputs);
        step.why(found.hit, this.shared.options.why ? found.why : '');
        const layer = found.hit ? found.layer : await make();
        const createdAtMs = found.hit ? found.createdAtMs : await this.shared.parts.cache.put(id, inputs, layer);
        state.createdAtMs = createdAtMs;
        const shared = layer && { layer: { descriptor: layer.descriptor, diffId: layer.layer.diffId } };
        const { epochSeconds } = this.shared.options;
        const at = epochSeconds === undefined ? createdAtMs : epochSeconds * 1000; // a cache is reproducible, too
        this.stepResults.add(index, { key: keyOf(inputs), createdAtMs: at, ...shared });
        return layer;
      },
    };
    try {
      await applyCommand(tools, state, command);
      step.done();
    } catch (error) {
      step.failed();
      throw this.explained(error, command);
    }
  }

  /** The node's own result of a step, else one of the sources that the build names. */
  private async find(state: StageState, id: string, inputs: Inputs): Promise<Lookup> {
    if (!this.usesCache(state)) return { hit: false, why: 'the cache is not used (--no-cache)' };
    const { cache } = this.shared.parts;
    const own = await cache.find(this.shared.workshop, id, inputs);
    if (own.hit || this.shared.sources.names === undefined) return own;
    const found = await this.shared.sources.find(this.shared.ctx, keyOf(inputs), state.layers);
    if (!found) return { hit: false, why: `${own.why}; and it is not in the cache ${this.shared.sources.names}` };
    const { layer, createdAtMs, source } = found;
    if (layer) await cache.keep(source, id, inputs, layer, createdAtMs);
    return { hit: true, layer, createdAtMs, why: `the same inputs as in the cache ${source}` };
  }

  /** No file of a layer is younger than the epoch. */
  private withEpoch(inputs: Inputs): Inputs {
    const { epochSeconds } = this.shared.options;
    return epochSeconds === undefined ? inputs : { ...inputs, SOURCE_DATE_EPOCH: String(epochSeconds) };
  }

  /** The node's own is not named: results of builds that knew no other are those of this one. */
  private foreignPlatform({ platform }: StageState): string | undefined {
    return fits(platform, this.shared.workshop.platform) ? undefined : describePlatform(platform);
  }

  private usesCache({ name }: StageState): boolean {
    const { noCache } = this.shared.options;
    return typeof noCache === 'boolean' ? !noCache : !noCache.some(each => each.toLowerCase() === name);
  }

  /** What --from names in the stage `own`, also in a trigger that it has from its base: an earlier stage, or an image. */
  private async sourceOf(own: number, name: string): Promise<Source> {
    const index = indexOf(this.shared.dockerfile.stages.slice(0, own), name);
    const source = index === undefined ? this.image(name, this.target) : this.stage(index);
    return { layers: (await this.shared.ctx.race(source)).layers };
  }

  private where(line: number): string {
    return `${this.shared.options.dockerfileName}:${line}`;
  }

  private explained(error: unknown, command: Command): unknown {
    if (this.shared.ctx.signal.aborted || !(error instanceof BerthError) || error instanceof DockerfileError)
      return error;
    const output = error instanceof StepFailed && error.lastOutput !== '' ? `\n${error.lastOutput}` : '';
    return new BerthError(error.kind, `${this.where(command.line)}: ${command.original}: ${error.message}${output}`, {
      cause: error,
    });
  }

  private assertStage(asked: string): void {
    const names = this.shared.dockerfile.stages.map(nameOf);
    if (names.includes(asked.toLowerCase())) return;
    throw new BerthError('invalid_argument', `--no-cache-filter ${asked}: no stage is called so`, {
      hint: `there are ${names.join(', ')}`,
    });
  }
}

/** For messages and the cache. */
function nameOf({ name, index }: Stage): string {
  return name ?? `stage-${index}`;
}
