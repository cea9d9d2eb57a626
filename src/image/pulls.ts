import type { Context } from '../base/context';
import { kindOf, messageOf } from '../base/errors';
import { Rate } from '../base/rate';
import { noMetrics, type Metrics } from '../metrics/metrics';
import type { Digest } from './digest';
import type { LayerProgress } from './pull';

export type Operation = 'pull' | 'load' | 'import';
export type Asker = 'cri' | 'person';
export type Outcome = 'succeeded' | 'failed' | 'cancelled';

/** How far a pull is, or how it ended. */
export interface PullStatus {
  readonly id: string;
  /** In full. */
  readonly reference: string;
  readonly operation: Operation;
  readonly askedBy: readonly Asker[];
  readonly startedAtMs: number;
  readonly endedAtMs: number | undefined;
  /** The step under way, in words. */
  readonly stage: string;
  readonly layers: readonly LayerProgress[];
  /** Of the layers that were not here; never falls, though a layer may be fetched twice. */
  readonly doneBytes: number;
  /** 0 until the manifest is read. */
  readonly totalBytes: number;
  readonly bytesPerSecond: number;
  /** Until all bytes are here; undefined when nothing comes. */
  readonly remainingSeconds: number | undefined;
  readonly outcome: Outcome | undefined;
  readonly error: string | undefined;
  readonly imageId: Digest | undefined;
}

interface Clock {
  /** Since 1970. */
  now(): number;
}

const keptMs = 60_000;
const keptMax = 200;

/**
 * Every pull, load and import that runs, whoever asked, and those that ended
 * within the last minute. It knows what it is told; nothing waits for it.
 */
export class PullBook {
  private readonly running = new Map<string, Pull>();
  private ended: PullStatus[] = [];
  private count = 0;
  private readonly listeners = new Set<() => void>();

  constructor(
    private readonly metrics: Metrics = noMetrics,
    private readonly clock: Clock = Date,
  ) {}

  /**
   * Runs `work` with an entry in the book, which ends as the work does. The stage that the book shows is that of `ctx`.
   */
  async during<T extends { id: Digest }>(
    ctx: Context,
    what: { reference: string; operation: Operation },
    work: (pull: Pull) => Promise<T>,
  ): Promise<T> {
    const pull = new Pull(String(++this.count), what, ctx, this.clock, this.metrics, () => this.changed());
    this.running.set(pull.id, pull);
    this.metrics.pullStarted();
    this.changed();
    try {
      const image = await work(pull);
      this.end(pull, 'succeeded', { imageId: image.id });
      return image;
    } catch (error) {
      this.end(pull, kindOf(error) === 'cancelled' ? 'cancelled' : 'failed', { error: messageOf(error) });
      throw error;
    }
  }

  /** Oldest first. */
  list(): PullStatus[] {
    this.forget();
    return [...this.ended, ...[...this.running.values()].map(pull => pull.status())].sort(
      (a, b) => a.startedAtMs - b.startedAtMs || Number(a.id) - Number(b.id),
    );
  }

  /** The pulls under way that will give an image this name. */
  runningOf(reference: string): PullStatus[] {
    return [...this.running.values()].filter(pull => pull.reference === reference).map(pull => pull.status());
  }

  /** Resolves at the next change; at once when `signal` aborts. */
  async nextChange(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>(resolve => {
      const heard = () => {
        this.listeners.delete(heard);
        signal.removeEventListener('abort', heard);
        resolve();
      };
      this.listeners.add(heard);
      signal.addEventListener('abort', heard, { once: true });
    });
  }

  private end(pull: Pull, outcome: Outcome, how: { imageId?: Digest; error?: string }): void {
    const last = { ...pull.status(), bytesPerSecond: 0, remainingSeconds: undefined };
    const endedAtMs = this.clock.now();
    this.running.delete(pull.id);
    this.ended.push({ ...last, outcome, endedAtMs, imageId: how.imageId, error: how.error });
    this.forget();
    this.metrics.pullEnded(last.operation, outcome, (endedAtMs - last.startedAtMs) / 1000);
    this.changed();
  }

  private forget(): void {
    const oldest = this.clock.now() - keptMs;
    this.ended = this.ended.filter(({ endedAtMs = 0 }) => endedAtMs > oldest).slice(-keptMax);
  }

  private changed(): void {
    for (const listener of [...this.listeners]) listener();
  }
}

/** One line of the book. */
export class Pull {
  private readonly layers = new Map<Digest, LayerProgress>();
  private readonly askers = new Set<Asker>();
  private readonly rate: Rate;
  private readonly startedAtMs: number;
  private doneBytes = 0;

  constructor(
    readonly id: string,
    private readonly what: { reference: string; operation: Operation },
    private readonly ctx: Context,
    private readonly clock: Clock,
    private readonly metrics: Metrics,
    private readonly changed: () => void,
  ) {
    this.startedAtMs = clock.now();
    this.rate = new Rate(this.startedAtMs);
  }

  get reference(): string {
    return this.what.reference;
  }

  /** Somebody waits for it. */
  askedBy(who: Asker): void {
    this.askers.add(who);
    this.changed();
  }

  /** Takes what pull.ts says of a layer. */
  readonly take = (event: LayerProgress): void => {
    const before = this.layers.get(event.layer);
    const doneBytes = Math.max(before?.doneBytes ?? 0, Math.min(event.doneBytes, event.totalBytes));
    this.layers.set(event.layer, { ...event, doneBytes });
    if (event.phase === 'done' && before?.phase !== 'done') this.metrics.layerUnpacked();
    this.count();
    this.changed();
  };

  status(): PullStatus {
    const layers = [...this.layers.values()];
    const { doneBytes, totalBytes } = totals(layers);
    const bytesPerSecond = Math.round(this.rate.at(this.clock.now()));
    return {
      id: this.id,
      ...this.what,
      askedBy: [...this.askers],
      startedAtMs: this.startedAtMs,
      endedAtMs: undefined,
      stage: this.ctx.stageName,
      layers,
      doneBytes,
      totalBytes,
      bytesPerSecond,
      remainingSeconds: bytesPerSecond > 0 ? Math.ceil((totalBytes - doneBytes) / bytesPerSecond) : undefined,
      outcome: undefined,
      error: undefined,
      imageId: undefined,
    };
  }

  private count(): void {
    const { doneBytes } = totals([...this.layers.values()]);
    const more = doneBytes - this.doneBytes;
    if (more <= 0) return;
    this.doneBytes = doneBytes;
    this.rate.add(more, this.clock.now());
    if (this.what.operation === 'pull') this.metrics.bytesPulled(more);
  }
}

/** Layers that were here before are no part of what there is to do. */
function totals(layers: readonly LayerProgress[]): { doneBytes: number; totalBytes: number } {
  let doneBytes = 0;
  let totalBytes = 0;
  for (const layer of layers) {
    if (layer.phase === 'exists') continue;
    doneBytes += layer.doneBytes;
    totalBytes += layer.totalBytes;
  }
  return { doneBytes, totalBytes };
}
