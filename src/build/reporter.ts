import type { LayerProgress } from '../image/images';

/** What happens in a build, for whoever watches. */
export type BuildEvent =
  | {
      readonly type: 'step';
      readonly id: number;
      readonly name: string;
      readonly state: 'started' | 'done' | 'cached' | 'failed';
      readonly durationMs: number;
      readonly why: string;
    }
  | { readonly type: 'output'; readonly id: number; readonly stream: 'stdout' | 'stderr'; readonly data: Buffer }
  | { readonly type: 'pull'; readonly progress: LayerProgress }
  | { readonly type: 'warning'; readonly text: string };

/** One step under way. */
export interface StepReport {
  /** Resolves when there is room for more. */
  output(stream: 'stdout' | 'stderr', data: Buffer): Promise<void>;
  /** Whether the cache had the result, and why. */
  why(hit: boolean, text: string): void;
  done(): void;
  failed(): void;
}

export class Reporter {
  private steps = 0;

  /** `report` keeps the order, resolves when there is room for more, and never rejects. */
  constructor(private readonly report: (event: BuildEvent) => Promise<void>) {}

  warn(text: string): void {
    void this.report({ type: 'warning', text });
  }

  pull(progress: LayerProgress): void {
    void this.report({ type: 'pull', progress });
  }

  begin(name: string): StepReport {
    const id = ++this.steps;
    const startedAt = performance.now();
    let reason = '';
    let isCached = false;
    const say = (state: 'started' | 'done' | 'cached' | 'failed') => {
      const durationMs = Math.round(performance.now() - startedAt);
      void this.report({ type: 'step', id, name, state, durationMs, why: reason });
    };
    say('started');
    return {
      output: (stream, data) => this.report({ type: 'output', id, stream, data }),
      why: (hit, text) => {
        isCached = hit;
        reason = text;
      },
      done: () => say(isCached ? 'cached' : 'done'),
      failed: () => say('failed'),
    };
  }
}
