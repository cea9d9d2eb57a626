import { humanSize } from '../format/size';
import { fit } from './columns-of-text';
import type { Pane } from './explorer';
import type { ImageTree } from './image-tree';
import { shownName } from './names';
import { lossText } from './report';
import { Scroll } from './scroll';
import type { Styles } from './styles';
import { mostWasted, type WastedPath } from './waste';

const PATHS = 1000;

/** The paths that waste most. */
export class WastePane implements Pane {
  readonly help = '↑↓ path · Enter show where';
  readonly title = 'Wasted: what later layers replace or remove';
  private readonly wasted: readonly WastedPath[];
  private readonly scroll: Scroll;

  constructor(
    private readonly tree: ImageTree,
    private readonly style: Styles,
  ) {
    this.wasted = mostWasted(tree, PATHS);
    this.scroll = new Scroll(this.wasted.length);
  }

  get chosen(): WastedPath | undefined {
    return this.wasted[this.scroll.chosen];
  }

  key(name: string): boolean {
    return this.scroll.key(name);
  }

  lines(columns: number, rows: number, isChosen: boolean): string[] {
    if (this.wasted.length === 0) return [fit(' nothing', columns)];
    return this.scroll.seen(rows).map(i => {
      const one = this.wasted[i];
      if (!one) return ' '.repeat(columns);
      const name = shownName(this.tree.paths.fullName(one.path));
      const text = fit(
        ` ${humanSize(one.bytes).padStart(7)} ${name} (${one.losses.map(lossText).join(', ')})`,
        columns,
      );
      return one === this.chosen && isChosen ? this.style.chosen(text) : text;
    });
  }
}
