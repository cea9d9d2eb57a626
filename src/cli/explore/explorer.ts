import { fit } from './columns-of-text';
import { FilesPane } from './files-pane';
import { layerLines, LayersPane } from './layers-pane';
import type { ExploredImage } from './report';
import { styles, type Styles } from './styles';
import { WastePane } from './waste-pane';

/** One part of the screen, with what is chosen in it. */
export interface Pane {
  readonly title: string;
  /** What its keys are, in a few words. */
  readonly help: string;
  /** True when the key was its own. */
  key(name: string): boolean;
  /** As many lines as there is room for, each `columns` wide. */
  lines(columns: number, rows: number, isChosen: boolean): string[];
}

const COLUMNS_FOR_TWO = 72;
/** Keys that also work from the layers. */
const FOR_FILES = new Set(['a', 'c', 'r', 'u', 's', 'e', '/', 'escape']);
const HELP = 'Tab other pane · w wasted · q quit';

/**
 * The interactive view of an image, without a terminal: keys go in, lines of a screen come out. Layers on the left, on the
 * right the files of the one that is chosen, or the paths that waste most.
 */
export class Explorer {
  private readonly layers: LayersPane;
  private readonly files: FilesPane;
  private readonly waste: WastePane;
  private isLeft = true;
  private showsWaste = false;

  constructor(
    private readonly explored: ExploredImage,
    private readonly style: Styles = styles(true),
  ) {
    this.layers = new LayersPane(explored, style);
    this.files = new FilesPane(explored.tree, style);
    this.waste = new WastePane(explored.tree, style);
  }

  /** Takes a key; false when it says that this is enough. */
  key(name: string): boolean {
    if (name === 'ctrl-c') return false;
    // Letters are letters while a name is typed.
    if (this.files.isTyping) this.files.key(name);
    else if (name === 'q') return false;
    else if (name === 'tab' || name === 'back-tab') this.isLeft = !this.isLeft;
    else if (name === 'w') this.toggleWaste();
    else if (name === 'enter') this.enter();
    else if (this.isLeft && this.layers.key(name)) return true;
    else if (this.showsWaste && !this.isLeft) this.waste.key(name);
    else this.toFiles(name);
    return true;
  }

  /** The whole screen, a text for each of its rows. */
  draw(columns: number, rows: number): string[] {
    this.files.show(this.layers.chosen);
    const room = Math.max(1, rows - 1);
    const body = columns < COLUMNS_FOR_TWO ? this.paneLines(this.pane, columns, room, true) : this.both(columns, room);
    return [...body, this.style.dim(fit(` ${this.pane.help} · ${HELP}`, columns))].slice(0, rows);
  }

  private both(columns: number, rows: number): string[] {
    const left = Math.max(34, Math.floor(columns * 0.4));
    const layerRoom = Math.max(4, Math.min(this.explored.image.layers.length + 1, Math.floor(rows * 0.5)));
    const upper = this.paneLines(this.layers, left, layerRoom, this.isLeft);
    const lower = layerLines(this.explored, this.layers.chosen, left, rows - layerRoom, this.style);
    const right = this.paneLines(this.rightPane, columns - left - 1, rows, !this.isLeft);
    return right.map((line, i) => `${[...upper, ...lower][i] ?? ' '.repeat(left)}${this.style.dim('│')}${line}`);
  }

  private paneLines(pane: Pane, columns: number, rows: number, isChosen: boolean): string[] {
    const title = fit(` ${pane.title}`, columns);
    const lines = [
      isChosen ? this.style.title(title) : this.style.dim(title),
      ...pane.lines(columns, rows - 1, isChosen),
    ];
    while (lines.length < rows) lines.push(' '.repeat(columns));
    return lines.slice(0, rows);
  }

  private get pane(): Pane {
    return this.isLeft ? this.layers : this.rightPane;
  }

  private get rightPane(): Pane {
    return this.showsWaste ? this.waste : this.files;
  }

  /** From the layers, what is to be seen of the files can be said, too. */
  private toFiles(name: string): void {
    this.files.show(this.layers.chosen);
    if (this.isLeft && !FOR_FILES.has(name)) return;
    this.files.key(name);
    if (!this.files.isTyping) return;
    this.isLeft = false;
    this.showsWaste = false;
  }

  private toggleWaste(): void {
    this.showsWaste = !this.showsWaste;
    this.isLeft = false;
  }

  /** From a layer to its files; from a wasted path to the place where it is wasted; a directory is unfolded. */
  private enter(): void {
    if (this.isLeft) {
      this.isLeft = false;
      this.showsWaste = false;
    } else if (this.showsWaste) {
      const chosen = this.waste.chosen;
      const by = chosen?.losses[0]?.by;
      if (chosen === undefined || by === undefined) return;
      this.layers.choose(by);
      this.files.show(by);
      this.files.reveal(chosen.path);
      this.showsWaste = false;
    } else this.toFiles('enter');
  }
}
