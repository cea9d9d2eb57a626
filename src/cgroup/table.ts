import { addon } from '../native/addon';
import type { Home } from './hierarchies';

/** One file of a cgroup, the keys wanted of it (as in native/addon.ts; best in the file's order), and where their numbers go. */
export interface TableFile<Row> {
  mountpoint: string;
  file: string;
  keys: readonly string[];
  /** Without: always. The rest is said in native/addon.ts, of readTable. */
  when?: 'sign' | 'unless-at-rest' | 'unless-calm';
  take(row: Row, numbers: Numbers): void;
}

/** The numbers of a file's keys, in their order; undefined where the kernel has none. */
export interface Numbers {
  next(): number | undefined;
}

/** The readers go on at once with the second when they have read the first. */
const UNDER_WAY = 2;

/** The same files of many cgroups, read together. */
export class CgroupTable<Row> {
  private readonly layout: string;
  private readonly width: number;
  private readonly lanes = Array.from({ length: UNDER_WAY }, () => new Lane());
  private turn = 0;

  constructor(
    private readonly files: readonly TableFile<Row>[],
    private readonly empty: () => Row,
  ) {
    const parts = files.flatMap(({ when = 'always', mountpoint, file, keys }) => [
      when,
      mountpoint,
      `/${file}`,
      ...keys,
      '',
    ]);
    this.layout = parts.join('\0');
    this.width = files.reduce((sum, { keys }) => sum + keys.length, 0);
  }

  /** By paths of cgroups, in their order. */
  async read(paths: readonly string[]): Promise<Row[]> {
    if (paths.length === 0 || this.files.length === 0) return paths.map(this.empty);
    const lane = this.lanes[this.turn++ % UNDER_WAY] ?? new Lane();
    return lane.read(this.layout, paths, this.width, cells => paths.map((_, i) => this.rowOf(cells, i * this.width)));
  }

  private rowOf(cells: Float64Array, start: number): Row {
    const row = this.empty();
    let at = start;
    const numbers = { next: () => defined(cells[at++]) };
    for (const file of this.files) file.take(row, numbers);
    return row;
  }
}

/** One reading at a time, with the same memory for each: V8 counts that with its own, and would look for garbage. */
class Lane {
  private cells = new Float64Array(0);
  private last: Promise<unknown> = Promise.resolve();

  read<Rows>(
    layout: string,
    rows: readonly string[],
    width: number,
    take: (cells: Float64Array) => Rows,
  ): Promise<Rows> {
    const reading = this.last.then(async () => {
      if (this.cells.length < rows.length * width) this.cells = new Float64Array(rows.length * width);
      const { cells } = this;
      await addon().readTable(layout, rows.join('\0'), cells);
      return take(cells);
    });
    this.last = reading.catch(() => undefined);
    return reading;
  }
}

/** A file of which one number is wanted: the one that it begins with, or that of a key. */
export function single<Row>(
  { mountpoint }: Pick<Home, 'mountpoint'>,
  file: string,
  set: (row: Row, value: number | undefined) => unknown,
  key = '#',
): TableFile<Row> {
  return { mountpoint, file, keys: [key], take: (row, numbers) => void set(row, numbers.next()) };
}

export function times1000(value: number | undefined): number | undefined {
  return value === undefined ? undefined : value * 1000;
}

function defined(value: number | undefined): number | undefined {
  return value === undefined || Number.isNaN(value) ? undefined : value;
}
