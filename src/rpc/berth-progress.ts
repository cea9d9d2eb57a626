import { LayerProgress_Phase as Phase, type LayerProgress, type PullProgress } from '../cri/generated/berth/v1/berth';
import type { LayerProgress as ImageLayerProgress } from '../image/images';

const MIN_INTERVAL_MS = 100;

/**
 * What a person sees of layers on their way: at most ten messages a second, each
 * with the layers that changed; the first comes at once, with all of them. A
 * client who reads slowly gets fewer.
 */
export class LayerFeed<Event extends { readonly layer: string }, Message> implements AsyncDisposable {
  private readonly changed = new Map<string, Message>();
  private timer: NodeJS.Timeout | undefined;
  private sending: Promise<void> = Promise.resolve();
  private nextAt = 0;

  constructor(
    private readonly toMessage: (event: Event) => Message,
    private readonly send: (progress: { layers: Message[] }) => Promise<void>,
  ) {}

  readonly take = (event: Event): void => {
    this.changed.set(event.layer, this.toMessage(event));
    // Never at once: a pull announces its layers one after the other.
    this.timer ??= setTimeout(() => void this.flush(), Math.max(0, this.nextAt - performance.now()));
  };

  /** Sends what was not sent yet. The work has ended, well or not. */
  async end(): Promise<void> {
    await this.flush();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  private async flush(): Promise<void> {
    clearTimeout(this.timer);
    await this.sending;
    const layers = [...this.changed.values()];
    this.changed.clear();
    this.nextAt = performance.now() + MIN_INTERVAL_MS;
    // The call has ended when this fails, and its work hears of that itself.
    if (layers.length > 0) this.sending = this.send({ layers }).catch(() => undefined);
    await this.sending;
    this.timer = undefined;
    const [next] = this.changed.values();
    if (next) this.timer = setTimeout(() => void this.flush(), MIN_INTERVAL_MS);
  }
}

/** Of a pull, a load or an import. */
export class ProgressFeed extends LayerFeed<ImageLayerProgress, LayerProgress> {
  constructor(send: (progress: PullProgress) => Promise<void>) {
    super(layerProgress, send);
  }
}

export function layerProgress({ layer, phase, doneBytes, totalBytes }: ImageLayerProgress): LayerProgress {
  const isHere = phase === 'downloading' && totalBytes > 0 && doneBytes >= totalBytes;
  return {
    digest: layer,
    phase: isHere ? Phase.UNPACKING : PHASES[phase],
    doneBytes: BigInt(doneBytes),
    totalBytes: BigInt(totalBytes),
  };
}

const PHASES: Readonly<Record<ImageLayerProgress['phase'], Phase>> = {
  waiting: Phase.WAITING,
  downloading: Phase.DOWNLOADING,
  done: Phase.DONE,
  exists: Phase.PRESENT,
};
