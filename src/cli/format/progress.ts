import type { LayerProgress, PullProgress } from '../../cri/generated/berth/v1/berth';
import { LayerProgress_Phase as Phase } from '../../cri/generated/berth/v1/berth';
import { Rate } from '../../base/rate';
import { shortId } from './names';
import { humanRate, humanTime } from './rate';
import { Redrawn, type Screen } from './redrawn';
import { humanSize } from './size';

/** Shows how far a pull is. */
export interface ProgressDisplay {
  update(progress: PullProgress): void;
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
  private readonly lines: Redrawn;
  private readonly rate = new Rate(performance.now());
  private doneBytes = 0;

  constructor(private readonly screen: Screen) {
    this.lines = new Redrawn(screen);
  }

  update({ layers }: PullProgress): void {
    for (const layer of layers) this.layers.set(layer.digest, layer);
    this.lines.draw([...this.layerLines(), ...this.totalLine()]);
  }

  /** One line a layer; where the screen is too low for all, those that are at work. */
  private layerLines(): string[] {
    const all = [...this.layers.values()];
    const room = Math.max(2, (this.screen.rows ?? 24) - 3);
    if (all.length <= room) return all.map(line);
    const busy = all.filter(({ phase }) => phase === Phase.DOWNLOADING || phase === Phase.UNPACKING).slice(0, room - 1);
    const done = all.filter(({ phase }) => phase === Phase.DONE || phase === Phase.PRESENT).length;
    return [...busy.map(line), `${done} of ${all.length} layers are here`];
  }

  /** Of all that is fetched, while it is. */
  private totalLine(): string[] {
    const fetched = [...this.layers.values()].filter(({ phase }) => phase !== Phase.PRESENT);
    const done = Number(sum(fetched.map(({ doneBytes }) => doneBytes)));
    const total = Number(sum(fetched.map(({ totalBytes }) => totalBytes)));
    const now = performance.now();
    this.rate.add(Math.max(0, done - this.doneBytes), now);
    this.doneBytes = Math.max(done, this.doneBytes);
    if (fetched.every(({ phase }) => phase === Phase.DONE)) return [];
    const rate = Math.round(this.rate.at(now));
    const left = rate > 0 && done < total ? [`${humanTime(Math.ceil((total - done) / rate))} left`] : [];
    return [['Total:', bar(BigInt(done), BigInt(total)), humanRate(rate), ...left].join('  ')];
  }
}

function line({ digest, phase, doneBytes, totalBytes }: LayerProgress): string {
  const text = `${shortId(digest)}: ${words[phase] ?? ''}`;
  return phase === Phase.DOWNLOADING ? `${text} ${bar(doneBytes, totalBytes)}` : text;
}

function sum(values: readonly bigint[]): bigint {
  return values.reduce((total, value) => total + value, 0n);
}

const barWidth = 30;

/** `[=====>    ]  12.3MB/45MB`, or only what has come when the whole is not known. */
function bar(done: bigint, total: bigint): string {
  if (total <= 0n) return humanSize(done);
  const full = Math.min(barWidth, Math.floor((Number(done) / Number(total)) * barWidth));
  const arrow = full < barWidth ? '>' : '';
  return `[${('='.repeat(full) + arrow).padEnd(barWidth)}]  ${humanSize(done)}/${humanSize(total)}`;
}
