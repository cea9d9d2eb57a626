import { LayerProgress_Phase as Phase } from '../../cri/generated/berth/v1/berth';
import { Rate } from '../../base/rate';
import { shortId } from './names';
import { humanRate, humanTime } from './rate';
import { Redrawn, type Screen } from './redrawn';
import { humanSize } from './size';

/** A layer on its way, here or to a registry. */
interface MovingLayer {
  digest: string;
  phase: number;
  doneBytes: bigint;
  totalBytes: bigint;
}

/** Shows how far a pull or a push is. */
export interface ProgressDisplay {
  update(progress: { layers: MovingLayer[] }): void;
}

/** What phases are called, and what they mean. */
export interface Phases {
  words: Readonly<Record<number, string>>;
  waiting: number;
  /** With a bar. */
  moving: number;
  /** At work otherwise. */
  busy: readonly number[];
  /** Done, by this pull or push. */
  done: number;
  /** There was nothing to do. */
  present: readonly number[];
  /** After "2 of 5 layers are". */
  where: string;
}

/** Bars that are redrawn on a terminal, a line per change of phase elsewhere, nothing when `quiet`. */
export function progressDisplay(screen: Screen, quiet: boolean, phases: Phases = PULL): ProgressDisplay {
  if (quiet) return { update: () => undefined };
  return screen.isTTY ? new Bars(screen, phases) : new Lines(screen, phases);
}

const PULL: Phases = {
  words: {
    [Phase.WAITING]: 'Waiting',
    [Phase.DOWNLOADING]: 'Downloading',
    [Phase.UNPACKING]: 'Extracting',
    [Phase.DONE]: 'Pull complete',
    [Phase.PRESENT]: 'Already exists',
  },
  waiting: Phase.WAITING,
  moving: Phase.DOWNLOADING,
  busy: [Phase.UNPACKING],
  done: Phase.DONE,
  present: [Phase.PRESENT],
  where: 'here',
};

class Lines implements ProgressDisplay {
  private readonly last = new Map<string, number>();

  constructor(
    private readonly screen: Screen,
    private readonly phases: Phases,
  ) {}

  update({ layers }: { layers: MovingLayer[] }): void {
    for (const { digest, phase } of layers) {
      if (this.last.get(digest) === phase) continue;
      this.last.set(digest, phase);
      if (phase !== this.phases.waiting) this.screen.write(`${shortId(digest)}: ${this.phases.words[phase] ?? ''}\n`);
    }
  }
}

class Bars implements ProgressDisplay {
  private readonly layers = new Map<string, MovingLayer>();
  private readonly lines: Redrawn;
  private readonly rate = new Rate(performance.now());
  private doneBytes = 0;

  constructor(
    private readonly screen: Screen,
    private readonly phases: Phases,
  ) {
    this.lines = new Redrawn(screen);
  }

  update({ layers }: { layers: MovingLayer[] }): void {
    for (const layer of layers) this.layers.set(layer.digest, layer);
    this.lines.draw([...this.layerLines(), ...this.totalLine()]);
  }

  /** One line a layer; where the screen is too low for all, those that are at work. */
  private layerLines(): string[] {
    const all = [...this.layers.values()];
    const room = Math.max(2, (this.screen.rows ?? 24) - 3);
    const { moving, busy, done, present, where } = this.phases;
    if (all.length <= room) return all.map(layer => this.line(layer));
    const atWork = all.filter(({ phase }) => phase === moving || busy.includes(phase)).slice(0, room - 1);
    const there = all.filter(({ phase }) => phase === done || present.includes(phase)).length;
    return [...atWork.map(layer => this.line(layer)), `${there} of ${all.length} layers are ${where}`];
  }

  /** Of all that is fetched, while it is. */
  private totalLine(): string[] {
    const fetched = [...this.layers.values()].filter(({ phase }) => !this.phases.present.includes(phase));
    const done = Number(sum(fetched.map(({ doneBytes }) => doneBytes)));
    const total = Number(sum(fetched.map(({ totalBytes }) => totalBytes)));
    const now = performance.now();
    this.rate.add(Math.max(0, done - this.doneBytes), now);
    this.doneBytes = Math.max(done, this.doneBytes);
    if (fetched.every(({ phase }) => phase === this.phases.done)) return [];
    const rate = Math.round(this.rate.at(now));
    const left = rate > 0 && done < total ? [`${humanTime(Math.ceil((total - done) / rate))} left`] : [];
    return [['Total:', bar(BigInt(done), BigInt(total)), humanRate(rate), ...left].join('  ')];
  }

  private line({ digest, phase, doneBytes, totalBytes }: MovingLayer): string {
    const text = `${shortId(digest)}: ${this.phases.words[phase] ?? ''}`;
    return phase === this.phases.moving ? `${text} ${bar(doneBytes, totalBytes)}` : text;
  }
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
