import { ellipsis } from '../format/names';
import { printable } from '../format/printable';
import { humanSize } from '../format/size';
import { table } from '../format/table';
import { changesOf } from './changes';
import type { ImageTree, LayerSums } from './image-tree';
import { safeJson } from './json';
import { nameText, shownName } from './names';
import type { InspectedImage } from './read-image';
import { mostWasted, type Loss, type WastedPath } from './waste';

/** An image that has been read. */
export interface ExploredImage {
  readonly image: InspectedImage;
  readonly tree: ImageTree;
}

export interface ReportOptions {
  /** Every path that a layer did something to, too. */
  readonly changes: boolean;
  /** How many of the paths at which bytes are wasted. */
  readonly top: number;
}

const LINE_LENGTH = 60;

/** What there is to say of an image, for people, piece by piece. */
export function* textReport({ image, tree }: ExploredImage, { changes, top }: ReportOptions): Generator<string> {
  yield layerTable(image, tree);
  yield `\n${summary(tree)}\n`;
  const wasted = mostWasted(tree, top);
  if (wasted.length > 0) yield `\n${wasteTable(tree, wasted)}`;
  if (!changes) return;
  for (const [layer, { line }] of image.layers.entries()) {
    yield `\nLayer ${layer + 1}: ${printable(line)}\n`;
    for (const { kind, path, sizeBytes } of changesOf(tree, layer))
      yield `${LETTERS[kind]} ${humanSize(sizeBytes).padStart(7)} ${printable(path)}\n`;
  }
}

/** Those of `berth diff`. */
export const LETTERS = { added: 'A', changed: 'C', removed: 'D' } as const;

/** The same as one JSON object in a line, piece by piece: with `changes` it may be long. */
export function* jsonReport({ image, tree }: ExploredImage, { changes, top }: ReportOptions): Generator<string> {
  const { bytes, wastedBytes, efficiency } = tree;
  const { id, tags } = image;
  const wasted = mostWasted(tree, top).map(one => wasteJson(tree, one));
  yield open({ id, tags, sizeBytes: bytes, wastedBytes, efficiency, wasted });
  yield ',"layers":[';
  for (const [layer, { diffId, line }] of image.layers.entries()) {
    const { bytes: sizeBytes, ...sums } = sumsOf(tree, layer);
    yield (layer > 0 ? ',' : '') + open({ number: layer + 1, diffId, createdBy: line, sizeBytes, ...sums });
    if (changes) yield* jsonList('changes', changesOf(tree, layer));
    yield '}';
  }
  yield ']}\n';
}

/** An object in JSON that more may follow in. */
function open(object: object): string {
  return safeJson(object).slice(0, -1);
}

function* jsonList(name: string, items: Iterable<unknown>): Generator<string> {
  yield `,"${name}":[`;
  let separator = '';
  for (const item of items) {
    yield separator + safeJson(item);
    separator = ',';
  }
  yield ']';
}

/** `3 layers, 12MB, of which later layers replace or remove 1MB: efficiency 91.6 %` */
function summary({ layers, bytes, wastedBytes, efficiency }: ImageTree): string {
  const size = `${layers.length} ${layers.length === 1 ? 'layer' : 'layers'}, ${humanSize(bytes)}`;
  if (wastedBytes === 0) return `${size}: nothing is wasted`;
  return `${size}, of which later layers replace or remove ${humanSize(wastedBytes)}: efficiency ${percent(efficiency)}`;
}

/** Rounded down: what is not whole is not shown as 100 %. */
export function percent(share: number): string {
  return `${(Math.floor(share * 1000) / 10).toFixed(1)} %`;
}

function layerTable(image: InspectedImage, tree: ImageTree): string {
  const rows = image.layers.map(({ line }, layer) => {
    const { bytes, wastedBytes, added, changed, removed } = sumsOf(tree, layer);
    const counts = [added, changed, removed].map(String);
    return [String(layer + 1), humanSize(bytes), humanSize(wastedBytes), ...counts, ellipsis(line, LINE_LENGTH)];
  });
  return table(['LAYER', 'SIZE', 'WASTED', 'ADDED', 'CHANGED', 'REMOVED', 'CREATED BY'], rows);
}

function wasteTable(tree: ImageTree, wasted: readonly WastedPath[]): string {
  const rows = wasted.map(({ path, bytes, losses }) => [
    humanSize(bytes),
    losses.map(lossText).join(', '),
    shownName(tree.paths.fullName(path)),
  ]);
  return table(['WASTED', 'LAYERS', 'PATH'], rows);
}

/** `2 changed by 5`: layer 5 has another file where layer 2 brought one. */
export function lossText({ layer, how, by }: Loss): string {
  return `${layer + 1} ${how} by ${by + 1}`;
}

function wasteJson(tree: ImageTree, { path, bytes, losses }: WastedPath): object {
  const layers = losses.map(({ bytes: sizeBytes, layer, by, how }) => ({
    layer: layer + 1,
    how,
    by: by + 1,
    sizeBytes,
  }));
  return { path: nameText(tree.paths.fullName(path)), wastedBytes: bytes, layers };
}

export function sumsOf(tree: ImageTree, layer: number): LayerSums {
  return tree.layers[layer] ?? { bytes: 0, wastedBytes: 0, added: 0, changed: 0, removed: 0 };
}
