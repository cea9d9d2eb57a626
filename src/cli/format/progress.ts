import type { LayerProgress, PullProgress } from '../../cri/generated/berth/v1/berth';
import { LayerProgress_Phase as Phase } from '../../cri/generated/berth/v1/berth';
import { shortId } from './names';
import { humanSize } from './size';

/** Shows how far a pull is. */
export interface ProgressDisplay {
  update(progress: PullProgress): void;
}

/** What a display needs of the stream it draws on. */
export interface Screen {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
}

/** Bars that are redrawn on a terminal, a line per change of phase elsewhere, nothing when `quiet`. */
export function progressDisplay(screen: Screen, quiet: boolean): ProgressDisplay {
  if (quiet) return { update: () => undefined };
  return screen.isTTY ? new Bars(screen) : new Lines(screen);
}

const words: Readonly<Record<number, string>> = {
  [Phase.WAITING]: 'Waiting',
  [Phase.DOWNLOADING]: 'Downloading',
  [Phase.UNPACKING]: 'Extracting',
  [Phase.DONE]: 'Pull complete',
  [Phase.PRESENT]: 'Already exists',
};

class Lines implements ProgressDisplay {
  private readonly phases = new Map<string, Phase>();

  constructor(private readonly screen: Screen) {}

  update({ layers }: PullProgress): void {
    for (const { digest, phase } of layers) {
      if (this.phases.get(digest) === phase) continue;
      this.phases.set(digest, phase);
      if (phase !== Phase.WAITING) this.screen.write(`${shortId(digest)}: ${words[phase] ?? ''}\n`);
    }
  }
}

class Bars implements ProgressDisplay {
  private readonly layers = new Map<string, LayerProgress>();
  private drawn = 0;

  constructor(private readonly screen: Screen) {}

  update({ layers }: PullProgress): void {
    for (const layer of layers) this.layers.set(layer.digest, layer);
    const up = this.drawn === 0 ? '' : `\x1b[${this.drawn}A`;
    const lines = this.lines();
    this.screen.write(up + lines.map(line => `\r\x1b[K${line}\n`).join('') + '\x1b[J');
    this.drawn = lines.length;
  }

  /** One line a layer; where the screen is too low for all, those that are at work. */
  private lines(): string[] {
    const all = [...this.layers.values()];
    const room = Math.max(2, (this.screen.rows ?? 24) - 2);
    if (all.length <= room) return all.map(layer => this.line(layer));
    const busy = all.filter(({ phase }) => phase === Phase.DOWNLOADING || phase === Phase.UNPACKING).slice(0, room - 1);
    const done = all.filter(({ phase }) => phase === Phase.DONE || phase === Phase.PRESENT).length;
    return [...busy.map(layer => this.line(layer)), `${done} of ${all.length} layers are here`];
  }

  private line({ digest, phase, doneBytes, totalBytes }: LayerProgress): string {
    const width = (this.screen.columns ?? 80) - 1;
    const text = `${shortId(digest)}: ${words[phase] ?? ''}`;
    return (phase === Phase.DOWNLOADING ? `${text} ${bar(doneBytes, totalBytes)}` : text).slice(0, width);
  }
}

const barWidth = 30;

/** `[=====>    ]  12.3MB/45MB`, or only what has come when the whole is not known. */
function bar(done: bigint, total: bigint): string {
  if (total <= 0n) return humanSize(done);
  const full = Math.min(barWidth, Math.floor((Number(done) / Number(total)) * barWidth));
  const arrow = full < barWidth ? '>' : '';
  return `[${('='.repeat(full) + arrow).padEnd(barWidth)}]  ${humanSize(done)}/${humanSize(total)}`;
}
