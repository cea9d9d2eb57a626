import { shortId } from '../format/names';
import { printable } from '../format/printable';
import { humanSize } from '../format/size';
import { fit, wrap } from './columns-of-text';
import type { Pane } from './explorer';
import { percent, sumsOf, type ExploredImage } from './report';
import { Scroll } from './scroll';
import type { Styles } from './styles';

/** Of a line of a Dockerfile; those of generated ones have no end. */
const LINE_MAX = 4000;

/** The layers of an image, from the base down. */
export class LayersPane implements Pane {
  readonly help = '↑↓ layer';
  private readonly scroll: Scroll;

  constructor(
    private readonly explored: ExploredImage,
    private readonly style: Styles,
  ) {
    this.scroll = new Scroll(explored.image.layers.length);
  }

  get title(): string {
    return `Layers of ${printable(this.explored.image.tags[0] ?? shortId(this.explored.image.id))}`;
  }

  /** From 0. */
  get chosen(): number {
    return this.scroll.chosen;
  }

  choose(layer: number): void {
    this.scroll.choose(layer);
  }

  key(name: string): boolean {
    return this.scroll.key(name);
  }

  lines(columns: number, rows: number, isChosen: boolean): string[] {
    return this.scroll.seen(rows).map(layer => {
      const size = humanSize(sumsOf(this.explored.tree, layer).bytes).padStart(7);
      const line = shortened(this.explored.image.layers[layer]?.line ?? '');
      const text = fit(`${layer === this.chosen ? '▸' : ' '}${String(layer + 1).padStart(3)} ${size} ${line}`, columns);
      return layer === this.chosen && isChosen ? this.style.chosen(text) : text;
    });
  }
}

/** What there is to say of a layer, and of the image. */
export function layerLines(
  { image, tree }: ExploredImage,
  layer: number,
  columns: number,
  rows: number,
  style: Styles,
): string[] {
  const { bytes, wastedBytes, added, changed, removed } = sumsOf(tree, layer);
  const { diffId = '', line = '' } = image.layers[layer] ?? {};
  const heading = (text: string) => style.dim(fit(` ${text}`, columns));
  const text = (words: string) => wrap(words, columns - 2).map(part => fit(` ${part}`, columns));
  const sums = [
    heading(`Layer ${layer + 1} of ${image.layers.length}`),
    ...text(`${added} added, ${changed} changed, ${removed} removed`),
    ...text(`${humanSize(bytes)}, of which ${humanSize(wastedBytes)} are wasted`),
  ];
  const whole = [
    heading('Image'),
    ...text(`${humanSize(tree.bytes)}, of which ${humanSize(tree.wastedBytes)} are wasted`),
    ...text(`efficiency ${percent(tree.efficiency)}`),
  ];
  const room = Math.max(1, rows - sums.length - whole.length - 1);
  const command = [...text(shortened(line)).slice(0, room), ...text(diffId).slice(0, 1)];
  return [...sums, ...command, ...whole].slice(0, rows);
}

function shortened(line: string): string {
  return printable(line.slice(0, LINE_MAX));
}
