import { BerthService } from '../../cri/generated/berth/v1/berth';
import { ExploreService } from '../../cri/generated/berth/v1/explore';
import type { Daemon } from '../client';
import { shortId } from '../format/names';
import { dockerfileLine } from './dockerfile-line';
import { ManifestReader, type ManifestSink } from './manifest';

interface InspectedLayer {
  readonly diffId: string;
  /** The Dockerfile's line; empty where the image does not say. */
  readonly line: string;
}

/** What the daemon tells of an image. */
export interface InspectedImage {
  readonly id: string;
  readonly tags: readonly string[];
  /** Lists and texts, as the daemon has parsed them; without its history. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly layers: readonly InspectedLayer[];
}

interface Inspected {
  id: string;
  tags: string[];
  config: { history: { createdBy?: string; emptyLayer: boolean }[] } & Record<string, unknown>;
  layers: { diffId: string }[];
}

export async function inspectImage(daemon: Daemon, image: string): Promise<InspectedImage> {
  const { json } = await daemon.ask(BerthService.inspectImage, { image });
  const { id, tags, config, layers } = JSON.parse(json) as Inspected;
  const { history, ...rest } = config;
  const lines = history.filter(({ emptyLayer }) => !emptyLayer).map(({ createdBy }) => dockerfileLine(createdBy ?? ''));
  // An image that was built on one without a history has lines for its uppermost layers.
  const unknown = layers.length - lines.length;
  return {
    id,
    tags,
    config: rest,
    layers: layers.map(({ diffId }, i) => ({ diffId, line: lines[i - unknown] ?? '' })),
  };
}

/** Whoever takes layers in, one after the other. */
export interface LayerSink extends ManifestSink {
  begin(): void;
}

/** Reads layers of an image, numbers from 0 upwards, each into what `sinkOf` has for it when it begins. */
export async function readLayers(
  daemon: Daemon,
  { id, layers }: InspectedImage,
  numbers: readonly number[],
  sinkOf: (layer: number) => LayerSink,
): Promise<void> {
  if (numbers.length === 0) return;
  let at = -1;
  let reader: ManifestReader | undefined;
  for await (const { layer, piece } of daemon.open(ExploreService.readLayers, { image: id, layers: [...numbers] })) {
    if (layer !== at) {
      reader?.end();
      at = layer;
      const sink = sinkOf(layer);
      sink.begin();
      reader = new ManifestReader(shortId(layers[layer]?.diffId ?? ''), sink);
    }
    reader?.take(piece);
  }
  reader?.end();
}
