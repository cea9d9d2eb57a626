import { printable } from '../format/printable';
import { humanSize } from '../format/size';
import { fit } from './columns-of-text';
import type { Pane } from './explorer';
import { FileRows, type FileRow, type Wanted } from './file-rows';
import type { ImageTree } from './image-tree';
import { CHANGES, MARK } from './marks';
import { manifestName, shownName } from './names';
import { LETTERS } from './report';
import { Scroll } from './scroll';
import type { Styles } from './styles';

const TOGGLES: Readonly<Record<string, number>> = {
  a: MARK.added,
  c: MARK.changed,
  r: MARK.removed,
  u: MARK.unchanged,
};

/** Of a path's attributes; less room is for its name alone. */
const COLUMNS_FOR_ATTRIBUTES = 56;

/** The file tree as it is after a layer. */
export class FilesPane implements Pane {
  readonly help = '↑↓ Space fold · e all · a c r u filter · s sort · / name';
  /** A name is being typed. */
  isTyping = false;
  private layer = -1;
  private wanted: Wanted = { marks: CHANGES, order: 'size', name: '' };
  private typed = '';
  private files: FileRows | undefined;
  private rows: FileRow[] = [];
  private readonly unfolded = new Set<number>();
  private readonly scroll = new Scroll(0);

  constructor(
    private readonly tree: ImageTree,
    private readonly style: Styles,
  ) {}

  get title(): string {
    const { marks, order, name } = this.wanted;
    const shown = Object.entries(TOGGLES).map(([letter, mark]) => ((marks & mark) !== 0 ? letter : '-'));
    const looked = this.isTyping
      ? ` · name: ${printable(this.typed)}▏`
      : name === ''
        ? ''
        : ` · name: ${shownName(name)}`;
    return `Files of layer ${this.layer + 1} [${shown.join('')}] by ${order}${looked}`;
  }

  /** Another layer is looked at; what is unfolded stays so. */
  show(layer: number): void {
    if (layer === this.layer || this.tree.layers.length === 0) return;
    const path = this.rows[this.scroll.chosen]?.path;
    this.layer = layer;
    this.look();
    if (path !== undefined) this.choose(path);
  }

  /** Unfolds what it takes to see a path, and chooses it. */
  reveal(path: number): void {
    const { paths } = this.tree;
    for (let at = paths.parentOf(path); at > 0; at = paths.parentOf(at)) this.unfolded.add(at);
    this.wanted = { ...this.wanted, marks: this.wanted.marks | CHANGES, name: '' };
    this.look();
    this.choose(path);
  }

  key(name: string): boolean {
    if (this.isTyping) return this.type(name);
    const toggled = TOGGLES[name];
    if (this.scroll.key(name)) return true;
    if (toggled !== undefined) this.want({ marks: this.wanted.marks ^ toggled });
    else if (name === 's') this.want({ order: this.wanted.order === 'size' ? 'name' : 'size' });
    else if (name === '/') this.begin();
    else if (name === 'escape') this.want({ name: '' });
    else if (name === 'e') this.foldAll();
    else return this.fold(name);
    return true;
  }

  lines(columns: number, rows: number, isChosen: boolean): string[] {
    if (this.rows.length === 0) return [fit(' nothing', columns)];
    return this.scroll.seen(rows).map(at => {
      const row = this.rows[at];
      return row ? this.line(row, columns, isChosen && at === this.scroll.chosen) : ' '.repeat(columns);
    });
  }

  private line({ path, depth }: FileRow, columns: number, isChosen: boolean): string {
    const files = this.files;
    if (!files) return ' '.repeat(columns);
    const { records, paths } = this.tree;
    const record = files.recordOf(path);
    const isDirectory = records.isDirectory(record);
    const fold = isDirectory && files.hasBelow(path) ? (this.isOpen(path) ? '▾' : '▸') : ' ';
    const target = records.typeOf(record) === 'l' ? ` → ${shownName(records.textOf(record))}` : '';
    const name = `${shownName(paths.nameOf(path))}${isDirectory ? '/' : ''}${target}`;
    const size = humanSize(isDirectory ? files.bytesOf(path) : records.sizeOf(record)).padStart(7);
    const mark = files.markOf(path);
    const indent = ' '.repeat(Math.min(2 * depth, Math.floor(columns / 3)));
    const attributes = columns < COLUMNS_FOR_ATTRIBUTES ? '' : `${this.attributes(record)} `;
    const text = fit(`${letterOf(mark)} ${attributes}${size} ${indent}${fold} ${name}`, columns);
    return isChosen ? this.style.chosen(text) : this.coloured(mark, text);
  }

  /** `drwxr-xr-x 0:0` */
  private attributes(record: number): string {
    const { records } = this.tree;
    const type = records.typeOf(record);
    const owner = `${records.uidOf(record)}:${records.gidOf(record)}`;
    return `${type === 'f' ? '-' : type}${permissions(records.modeOf(record))} ${owner.padEnd(9)}`;
  }

  private coloured(mark: number, text: string): string {
    if (mark === MARK.added) return this.style.added(text);
    if (mark === MARK.changed) return this.style.changed(text);
    return mark === MARK.removed ? this.style.removed(text) : text;
  }

  private isOpen(path: number): boolean {
    return this.unfolded.has(path) || (this.files?.isOnTheWay(path) ?? false);
  }

  /** False for a key that has to do with something else. */
  private fold(name: string): boolean {
    const path = this.rows[this.scroll.chosen]?.path;
    const what = FOLD_KEYS[name];
    if (what === undefined) return false;
    if (path === undefined) return true;
    const isOpen = this.unfolded.has(path);
    const parent = this.tree.paths.parentOf(path);
    if (what === 'fold' && !isOpen && parent > 0) this.choose(parent);
    else if (isOpen && what !== 'unfold') this.unfolded.delete(path);
    else if (what !== 'fold') this.unfolded.add(path);
    this.lay();
    return true;
  }

  /** All directories that are shown, unless all of them are unfolded already. */
  private foldAll(): void {
    const { paths } = this.tree;
    const folded: number[] = [];
    for (let path = 1; path < paths.count; path++)
      if (!this.unfolded.has(path) && this.files?.isShown(path) && this.files.hasBelow(path)) folded.push(path);
    if (folded.length === 0) this.unfolded.clear();
    for (const path of folded) this.unfolded.add(path);
    this.lay();
  }

  private begin(): void {
    this.isTyping = true;
    this.typed = '';
  }

  private type(name: string): boolean {
    if (name === 'enter' || name === 'escape') this.isTyping = false;
    if (name === 'enter') this.want({ name: manifestName(this.typed) });
    else if (name === 'backspace') this.typed = [...this.typed].slice(0, -1).join('');
    else if (name === 'space') this.typed += ' ';
    else if ([...name].length === 1) this.typed += name;
    return true;
  }

  private want(change: Partial<Wanted>): void {
    const path = this.rows[this.scroll.chosen]?.path;
    this.wanted = { ...this.wanted, ...change };
    this.look();
    if (path !== undefined) this.choose(path);
  }

  private look(): void {
    this.files = new FileRows(this.tree, this.layer, this.wanted);
    this.lay();
  }

  private lay(): void {
    this.rows = this.files?.rows(this.unfolded) ?? [];
    this.scroll.resize(this.rows.length);
  }

  /** The path, or the nearest directory above it that is shown. */
  private choose(path: number): void {
    const { paths } = this.tree;
    const lines = new Map(this.rows.map((row, line) => [row.path, line]));
    for (let at = path; at > 0; at = paths.parentOf(at)) {
      const line = lines.get(at);
      if (line !== undefined) return this.scroll.choose(line);
    }
    this.scroll.choose(0);
  }
}

const FOLD_KEYS: Readonly<Record<string, 'toggle' | 'fold' | 'unfold'>> = {
  space: 'toggle',
  enter: 'toggle',
  left: 'fold',
  h: 'fold',
  right: 'unfold',
  l: 'unfold',
};

function letterOf(mark: number): string {
  if (mark === MARK.added) return LETTERS.added;
  if (mark === MARK.changed) return LETTERS.changed;
  return mark === MARK.removed ? LETTERS.removed : ' ';
}

/** `rwsr-xr-t` */
function permissions(mode: number): string {
  const letters = [...'rwxrwxrwx'].map((letter, i) => ((mode & (0o400 >> i)) !== 0 ? letter : '-'));
  const special = [
    { bit: 0o4000, at: 2, letter: 's' },
    { bit: 0o2000, at: 5, letter: 's' },
    { bit: 0o1000, at: 8, letter: 't' },
  ];
  for (const { bit, at, letter } of special)
    if ((mode & bit) !== 0) letters[at] = letters[at] === 'x' ? letter : letter.toUpperCase();
  return letters.join('');
}
