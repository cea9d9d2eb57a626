import { anySignal } from '../base/any-signal';
import { Context } from '../base/context';
import { BerthError } from '../base/errors';
import type { ArtefactPlace } from '../image/artefact';
import type { Digest } from '../image/digest';
import type { Chunks } from '../image/incoming';
import type { OnProgress } from '../image/images';
import { describePlatform } from '../image/platform';
import type { BuiltLayer, SentFiles, Source, Workshop } from '../image/workshop';
import { keyOf, type Inputs, type Lookup } from './cache';
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
  readonly platform?: string;
  readonly secrets: ReadonlyMap<string, Uint8Array>;
  readonly ssh: ReadonlyMap<string, string>;
  /** The keys of hosts that are spoken to by ssh, as lines of a known_hosts. */
  readonly knownHosts: Uint8Array;
  readonly network: string;
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
  /** Absent where the output is no image. */
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
    return await parts.images.build(workshop =>
      new Build(parts, ctx, options, workshop, dockerfile, reporter).run(context),
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

interface StageResult {
  readonly document: ImageDocument;
  readonly layers: readonly BuiltLayer[];
}

class Build {
  private readonly globals: GlobalScope;
  private readonly plan: Plan;
  private readonly results = new Map<number, Promise<StageResult>>();
  private readonly images = new Map<string, Promise<StageResult>>();
  private readonly failed = new AbortController();
  private readonly sources: CacheSources;
  private readonly stepResults = new StepResults();
  private readonly ctx: Context;
  private context: (() => Promise<SentFiles>) | undefined;

  constructor(
    private readonly parts: BuildParts,
    outer: Context,
    private readonly options: BuildOptions,
    private readonly workshop: Workshop,
    private readonly dockerfile: Dockerfile,
    private readonly reporter: Reporter,
  ) {
    this.ctx = Context.of(outer.log, { signal: anySignal([outer.signal, this.failed.signal]) });
    this.sources = new CacheSources(parts.images, workshop, options.cacheFrom, reporter);
    const { platform } = workshop;
    this.assertPlatform(options.platform);
    this.globals = new GlobalScope(dockerfile.globals, options.buildArgs, platformArgs(platform), dockerfile.escape);
    this.plan = planBuild(dockerfile, options.target, this.globals);
    if (typeof options.noCache !== 'boolean') options.noCache.forEach(stage => this.assertStage(stage));
  }

  async run(context: Chunks): Promise<Built> {
    const received = this.receive(context);
    this.context = () => received;
    received.catch(() => undefined); // whoever needs it hears
    const stages = [...this.plan.stages.keys()].map(index => this.stage(index));
    try {
      await Promise.all([...stages, received]);
    } catch (error) {
      this.failed.abort();
      await Promise.allSettled([...stages, ...this.results.values(), ...this.images.values(), received]);
      throw error;
    }
    const { document, layers } = await this.stage(this.plan.target);
    for (const [name, value] of this.options.labels)
      document.config.Labels = { ...document.config.Labels, [name]: value };
    for (const each of this.options.cacheTo) await this.share(each);
    return this.put(this.options.cacheInline ? this.withCache(document, layers) : document, layers);
  }

  private async share(to: CacheExport): Promise<void> {
    const { workshop, reporter } = this;
    const results = this.stepResults.of(to.all ? 'all' : this.stagesOfTarget());
    await exportCache({ images: this.parts.images, workshop, reporter }, this.ctx, to, results);
  }

  private withCache(document: ImageDocument, layers: readonly BuiltLayer[]): ImageDocument {
    const results = this.stepResults.of(this.stagesOfTarget());
    return withInlineCache(document, layers, results, this.workshop.platform);
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

  /** Where the result goes. */
  private async put(document: ImageDocument, layers: readonly BuiltLayer[]): Promise<Built> {
    const { output, tags, epochSeconds } = this.options;
    const { images } = this.parts;
    switch (output.type) {
      case 'none':
        return {};
      case 'files':
        await this.workshop.fileSystem(this.ctx, layers, epochSeconds, output.send);
        return {};
      case 'image':
        return builtOf(await this.workshop.finish(this.ctx, document, layers, tags));
      case 'archive': {
        const image = await this.workshop.finish(this.ctx, document, layers, undefined);
        await images.saveBuilt(this.ctx, image, tags, output.send, event => this.reporter.pull(event));
        return builtOf(image);
      }
    }
  }

  private receive(context: Chunks): Promise<SentFiles> {
    // The client may have stopped sending while the build has failed already.
    return this.workshop.receive(this.ctx, () => this.ctx.race(context()), 'the context');
  }

  /** A stage of the Dockerfile, carried out once. */
  private stage(index: number): Promise<StageResult> {
    const known = this.results.get(index);
    if (known) return known;
    const planned = this.plan.stages.get(index) ?? this.stageOnDemand(index);
    const result = this.carryOut(planned);
    result.catch(() => this.failed.abort());
    this.results.set(index, result);
    return result;
  }

  /** One that only a trigger of a base image names. */
  private stageOnDemand(index: number): PlannedStage {
    const planned = planBuild(this.dockerfile, String(index), this.globals).stages.get(index);
    if (planned) return planned;
    throw new BerthError('internal', `the Dockerfile has no stage ${index}`);
  }

  private async carryOut(planned: PlannedStage): Promise<StageResult> {
    const { stage } = planned;
    const name = nameOf(stage);
    this.assertPlatform(planned.platform);
    const base = await this.baseOf(planned, name);
    const document = structuredClone(base.document);
    const triggers = document.config.OnBuild ?? [];
    delete document.config.OnBuild;
    const state: StageState = {
      ...{ document, name, hasOwnCommand: false, layers: [...base.layers], createdAtMs: undefined },
      scope: new StageScope(document.config, this.globals, this.dockerfile.escape),
    };
    const commands = [
      ...triggers.map(trigger => parseTrigger(trigger, this.dockerfile.escape, stage)),
      ...stage.commands,
    ];
    for (const [i, command] of commands.entries()) {
      this.ctx.throwIfEnded();
      await this.step(state, stage.index, command, `[${name} ${i + 2}/${commands.length + 1}] ${command.original}`);
    }
    return { document, layers: state.layers };
  }

  private async baseOf({ stage, base }: PlannedStage, name: string): Promise<StageResult> {
    if (base.kind === 'stage') return this.stage(base.index);
    const step = this.reporter.begin(`[${name} 1/${stage.commands.length + 1}] ${stage.original}`);
    try {
      const result =
        base.kind === 'scratch'
          ? { document: emptyDocument(this.workshop.platform), layers: [] }
          : await this.image(base.name);
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
  private image(name: string): Promise<StageResult> {
    const known = this.images.get(name);
    if (known) return known;
    const result = this.bringImage(this.options.contexts.get(name) ?? name);
    result.catch(() => undefined);
    this.images.set(name, result);
    return result;
  }

  private async bringImage(text: string): Promise<StageResult> {
    const { images } = this.parts;
    const name = text.replace(/^docker-image:\/\//, '');
    const onProgress: OnProgress = event => this.reporter.pull(event);
    if (this.options.pull || !images.find(name)) await images.pull(this.ctx, name, { onProgress, askedBy: 'person' });
    const image = images.find(name);
    if (!image) throw new BerthError('not_found', `image ${name} is not here`);
    const { config, layers } = await images.base(this.ctx, this.workshop, image);
    return { document: documentOf(config, name), layers };
  }

  private async step(state: StageState, index: number, command: Command, title: string): Promise<void> {
    const step = this.reporter.begin(title);
    const tools: StepTools = {
      ...{ parts: this.parts, ctx: this.ctx, workshop: this.workshop },
      options: {
        epochSeconds: this.options.epochSeconds,
        network: this.options.network,
        secrets: this.options.secrets,
        ssh: this.options.ssh,
        knownHosts: this.options.knownHosts,
      },
      context: () =>
        this.context ? this.context() : Promise.reject(new BerthError('internal', 'there is no context')),
      sourceOf: name => this.sourceOf(index, name),
      output: (stream, data) => step.output(stream, data),
      cached: async (named, make) => {
        const inputs = this.withEpoch(named);
        const id = stepName(state.name, command);
        const found = await this.find(state, id, inputs);
        step.why(found.hit, this.options.why ? found.why : '');
        const layer = found.hit ? found.layer : await make();
        const createdAtMs = found.hit ? found.createdAtMs : await this.parts.cache.put(id, inputs, layer);
        state.createdAtMs = createdAtMs;
        const shared = layer && { layer: { descriptor: layer.descriptor, diffId: layer.layer.diffId } };
        const { epochSeconds } = this.options;
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
    const { cache } = this.parts;
    const own = await cache.find(this.workshop, id, inputs);
    if (own.hit || this.sources.names === undefined) return own;
    const found = await this.sources.find(this.ctx, keyOf(inputs), state.layers);
    if (!found) return { hit: false, why: `${own.why}; and it is not in the cache ${this.sources.names}` };
    const { layer, createdAtMs, source } = found;
    if (layer) await cache.keep(source, id, inputs, layer, createdAtMs);
    return { hit: true, layer, createdAtMs, why: `the same inputs as in the cache ${source}` };
  }

  /** No file of a layer is younger than the epoch. */
  private withEpoch(inputs: Inputs): Inputs {
    const { epochSeconds } = this.options;
    return epochSeconds === undefined ? inputs : { ...inputs, SOURCE_DATE_EPOCH: String(epochSeconds) };
  }

  private usesCache({ name }: StageState): boolean {
    const { noCache } = this.options;
    return typeof noCache === 'boolean' ? !noCache : !noCache.some(each => each.toLowerCase() === name);
  }

  /** What --from names in the stage `own`, also in a trigger that it has from its base: an earlier stage, or an image. */
  private async sourceOf(own: number, name: string): Promise<Source> {
    const index = indexOf(this.dockerfile.stages.slice(0, own), name);
    const source = index === undefined ? this.image(name) : this.stage(index);
    return { layers: (await this.ctx.race(source)).layers };
  }

  private where(line: number): string {
    return `${this.options.dockerfileName}:${line}`;
  }

  private explained(error: unknown, command: Command): unknown {
    if (this.ctx.signal.aborted || !(error instanceof BerthError) || error instanceof DockerfileError) return error;
    const output = error instanceof StepFailed && error.lastOutput !== '' ? `\n${error.lastOutput}` : '';
    return new BerthError(error.kind, `${this.where(command.line)}: ${command.original}: ${error.message}${output}`, {
      cause: error,
    });
  }

  private assertStage(asked: string): void {
    const names = this.dockerfile.stages.map(nameOf);
    if (names.includes(asked.toLowerCase())) return;
    throw new BerthError('invalid_argument', `--no-cache-filter ${asked}: no stage is called so`, {
      hint: `there are ${names.join(', ')}`,
    });
  }

  private assertPlatform(asked: string | undefined): void {
    if (asked === undefined || asked === '') return;
    const own = this.workshop.platform;
    const [os = '', architecture = '', variant] = asked.split('/');
    const isOwn = os === own.os && architecture === own.architecture && (!variant || variant === own.variant);
    if (isOwn) return;
    throw new BerthError(
      'failed_precondition',
      `platform ${asked}: this node builds for ${describePlatform(own)} alone`,
    );
  }
}

function builtOf({ id, digest }: { readonly id: Digest; readonly digest: Digest }): Built {
  return { image: { id, manifestDigest: digest } };
}

/** For messages and the cache. */
function nameOf({ name, index }: Stage): string {
  return name ?? `stage-${index}`;
}
