import { Context } from '../base/context';
import { crashPoint } from '../base/crash-points';
import { BerthError, messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import { SingleFlight } from '../base/single-flight';
import { Slots } from './slots';
import type { Layer, Layers } from './snapshot/layers';
import { isSound, verifyLayer, type LayerState } from './unpack/verify';

/** What looking at a layer found: nothing, or a clause that says what is wrong; `undefined` when there is no manifest. */
export type Look = { readonly damage: string | undefined } | undefined;

/** Each reads all bytes of a layer: more at a time only make the disk seek. */
const looksMax = 2;

/** How long a repair may take before those who wait for it are told. */
const repairWithinMs = 600_000;

/**
 * Brings layers back that a crash of the machine has damaged. After one all are
 * suspect: each is compared with its manifest before its next use, and all are in
 * the background; a damaged one is fetched and unpacked again, alone. Containers
 * that stand on the old files keep them.
 */
export class Healer {
  private readonly flights = new SingleFlight<void>();
  private readonly slots = new Slots(looksMax);
  private readonly running = new Set<Promise<unknown>>();

  constructor(
    private readonly layers: Layers,
    /** Fetches the layer, unpacks it and puts it in the place of the damaged one. */
    private readonly refetch: (ctx: Context, layer: Layer) => Promise<void>,
    private readonly log: Logger,
  ) {}

  /** Looks at all suspects, and at what was found damaged and not yet fetched, one after the other, without anybody waiting. */
  lookAtAll(ctx: Context): void {
    const suspects = this.layers.list().filter(({ state }) => state !== 'sound');
    const work = (async () => {
      for (const { key } of suspects) {
        if (ctx.signal.aborted) return;
        await this.ensure(ctx, key).catch((error: unknown) => {
          if (!ctx.signal.aborted) this.log.error(messageOf(error));
        });
      }
    })().finally(() => this.running.delete(work));
    this.running.add(work);
  }

  /** Resolves once the layer is sound, for which it may be fetched again; throws `data_loss` when it cannot be. */
  async ensure(ctx: Context, key: string): Promise<void> {
    const found = await this.verified(ctx, key);
    if (found) return;
    if (!this.layers.get(key))
      throw new BerthError('data_loss', `layer ${key} is gone`, { hint: 'pull its image again' });
    await this.replace(ctx, key);
  }

  /** The layer once somebody has looked at it, or undefined when it is damaged. */
  async verified(ctx: Context, key: string): Promise<Layer | undefined> {
    if (this.layers.get(key)?.state === 'suspect')
      await ctx.race(this.fly(`look ${key}`, own => this.settle(own, key)));
    const layer = this.layers.get(key);
    return layer?.state === 'sound' ? layer : undefined;
  }

  /** Fetches the layer again, whatever it is now. */
  async replace(ctx: Context, key: string): Promise<void> {
    await ctx.race(
      this.fly(`replace ${key}`, async own => {
        const layer = this.layers.get(key);
        if (!layer) return;
        await this.layers.setState([key], 'damaged');
        crashPoint('heal.marked');
        try {
          await this.refetch(own, layer);
        } catch (error) {
          throw new BerthError(
            'data_loss',
            `layer ${key} is damaged and could not be fetched again: ${messageOf(error)}`,
            {
              cause: error,
              hint: 'pull its image again',
            },
          );
        }
        this.log.info(`layer ${key} has been fetched again`);
      }),
    );
  }

  /** Compares a layer's files with its manifest; changes nothing. */
  async look(ctx: Context, { dir, manifestPath, hasManifest }: Layer): Promise<Look> {
    if (!hasManifest) return undefined;
    try {
      return { damage: damageIn(await this.slots.run(ctx, this, () => verifyLayer(dir, manifestPath, ctx.signal))) };
    } catch (error) {
      ctx.throwIfEnded();
      return { damage: messageOf(error) };
    }
  }

  async settled(): Promise<void> {
    await Promise.allSettled([...this.running]);
  }

  private async settle(ctx: Context, key: string): Promise<void> {
    const layer = this.layers.get(key);
    if (!layer) return;
    const look = await this.look(ctx, layer);
    if (!look) this.log.warn(`layer ${key} is older than manifests are: nobody can say whether it is whole`);
    if (look?.damage !== undefined) this.log.error(`layer ${key} is damaged: ${look.damage}`);
    await this.layers.setState([key], look?.damage === undefined ? 'sound' : 'damaged');
  }

  /** The work belongs to all who wait: it has its own end, not that of the first who asked. */
  private fly(name: string, work: (ctx: Context) => Promise<void>): Promise<void> {
    const flight = this.flights.run(name, () => work(Context.of(this.log, { timeoutMs: repairWithinMs })));
    const tail = flight.catch(() => undefined).finally(() => this.running.delete(tail));
    this.running.add(tail);
    return flight;
  }
}

function damageIn(state: LayerState): string | undefined {
  if (isSound(state)) return undefined;
  if (state.manifestDamaged) return 'its manifest is damaged or gone';
  const shown = state.findings.slice(0, 3).map(({ word, path }) => `${JSON.stringify(path)} (${word})`);
  return `${state.damaged} of its objects differ: ${shown.join(', ')}${state.damaged > shown.length ? ', …' : ''}`;
}
