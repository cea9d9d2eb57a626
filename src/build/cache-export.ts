import type { Context } from '../base/context';
import { BerthError, kindOf, messageOf } from '../base/errors';
import { describePlace, type ArtefactPlace } from '../image/artefact';
import type { Images } from '../image/images';
import type { Platform } from '../image/platform';
import type { BuiltLayer, Workshop } from '../image/workshop';
import { cacheConfigType, inlineKey, writeCacheDocument, type SharedResult } from './cache-document';
import type { Reporter } from './reporter';

/** Where a build leaves what its steps have yielded. */
export interface CacheExport {
  readonly place: ArtefactPlace;
  /** The steps of all stages that the build has carried out, and not only of those that the result stands on. */
  readonly all: boolean;
  /** A failure is a warning. */
  readonly ignoresErrors: boolean;
}

/** What the steps of one build have yielded, by stage. */
export class StepResults {
  private readonly results: { readonly stage: number; readonly result: SharedResult }[] = [];

  add(stage: number, result: SharedResult): void {
    this.results.push({ stage, result });
  }

  /** Those of some stages, or of all. */
  of(stages: ReadonlySet<number> | 'all'): SharedResult[] {
    return this.results.filter(({ stage }) => stages === 'all' || stages.has(stage)).map(({ result }) => result);
  }
}

/** The config of an image of these layers, with those of the results that it is made of: see `cache-document.ts`. */
export function withInlineCache<Document extends object>(
  document: Document,
  layers: readonly BuiltLayer[],
  results: readonly SharedResult[],
  platform: Platform,
): Document {
  const own = new Set(layers.map(({ descriptor }) => descriptor.digest));
  const shown = results.filter(({ layer }) => layer === undefined || own.has(layer.descriptor.digest));
  return { ...document, [inlineKey]: writeCacheDocument(shown, platform).config.toString() };
}

/** Writes results to a place, for the builds that name it. */
export async function exportCache(
  { images, workshop, reporter }: { images: Images; workshop: Workshop; reporter: Reporter },
  ctx: Context,
  { place, ignoresErrors }: CacheExport,
  results: readonly SharedResult[],
): Promise<void> {
  const name = describePlace(place);
  const step = reporter.begin(`export the cache to ${name}`);
  try {
    ctx.stage(`export the cache to ${name}`);
    const { config, layers } = writeCacheDocument(results, workshop.platform);
    if (layers.length === 0) {
      // Registries differ in whether they take a manifest without layers, and a step that changes nothing is soon done.
      reporter.warn(`the cache ${name} is left as it is: no step of this build has made a layer`);
    } else {
      const artefact = await workshop.artefact(config, cacheConfigType, layers);
      await images.writeArtefact(ctx, place, artefact);
    }
    step.done();
  } catch (error) {
    step.failed();
    ctx.throwIfEnded();
    const message = `export the cache to ${name}: ${messageOf(error)}`;
    if (!ignoresErrors) throw new BerthError(kindOf(error), message, { cause: error });
    reporter.warn(message);
  }
}
