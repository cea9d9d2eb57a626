import type { Context } from '../base/context';
import { messageOf } from '../base/errors';
import { describePlace, type Artefact, type ArtefactPlace } from '../image/artefact';
import type { Images } from '../image/images';
import type { BuiltLayer, Workshop } from '../image/workshop';
import { cacheRules, readCacheDocument, type SharedResult } from './cache-document';
import type { Reporter } from './reporter';

/** A step's result that a source has, and whose layer is here by now. */
export interface SourceHit {
  readonly layer: BuiltLayer | undefined;
  readonly createdAtMs: number;
  /** In words. */
  readonly source: string;
}

interface Source {
  readonly artefact: Artefact;
  readonly results: ReadonlyMap<string, SharedResult>;
}

/**
 * The caches that a build names besides the node's own. Whoever can write one decides what the steps of the build yield, so
 * that they count for this build alone. What they say is checked, and a result counts once its layer has been unpacked and
 * is what it was said to be. One that is not there, or that is not right, is a warning, and the step is carried out.
 */
export class CacheSources {
  private readonly opened = new Map<ArtefactPlace, Promise<Source | undefined>>();

  constructor(
    private readonly images: Images,
    private readonly workshop: Workshop,
    private readonly places: readonly ArtefactPlace[],
    private readonly reporter: Reporter,
  ) {}

  /** For `--why`; undefined where the build names none. */
  get names(): string | undefined {
    return this.places.length === 0 ? undefined : this.places.map(describePlace).join(' and ');
  }

  /** The result with this key, from the first source that has it. `below` is what its layer comes on top of. */
  async find(ctx: Context, key: string, below: readonly BuiltLayer[]): Promise<SourceHit | undefined> {
    for (const place of this.places) {
      const source = await this.open(ctx, place);
      const result = source?.results.get(key);
      if (!source || !result) continue;
      const hit = { createdAtMs: result.createdAtMs, source: describePlace(place) };
      if (!result.layer) return { ...hit, layer: undefined };
      const { artefact } = source;
      try {
        const layer = await this.workshop.bring(ctx, artefact, result.layer, below, event => this.reporter.pull(event));
        return { ...hit, layer };
      } catch (error) {
        ctx.throwIfEnded();
        this.reporter.warn(`a result of the cache ${hit.source} is not used: ${messageOf(error)}`);
      }
    }
    return undefined;
  }

  /** Read when a step first needs it: a build that the node's own cache has asks nobody. */
  private open(ctx: Context, place: ArtefactPlace): Promise<Source | undefined> {
    const known = this.opened.get(place);
    if (known) return known;
    const source = this.read(ctx, place);
    this.opened.set(place, source);
    return source;
  }

  private async read(ctx: Context, place: ArtefactPlace): Promise<Source | undefined> {
    const name = describePlace(place);
    try {
      ctx.stage(`read the cache ${name}`);
      const { platform } = this.workshop;
      const artefact = await this.images.readArtefact(ctx, place, cacheRules, platform);
      const { config, manifest } = artefact;
      const results = readCacheDocument(config, manifest, platform, `the cache ${name}`);
      return { artefact, results };
    } catch (error) {
      ctx.throwIfEnded();
      this.reporter.warn(`the cache ${name} is not used: ${messageOf(error)}`);
      return undefined;
    }
  }
}
