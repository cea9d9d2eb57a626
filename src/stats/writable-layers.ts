import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import type { Container, Containers } from '../container/containers';
import { addon } from '../native/addon';

/** What a container has on the disk beside its image. */
export interface Written {
  readonly takenAtMs: number;
  readonly bytes: number;
  readonly inodes: number;
}

interface Reading extends Written {
  /** How long the counting took. */
  ms: number;
}

/** A reading is good for so long; the kubelet asks every ten seconds and more. */
const GOOD_FOR_MS = 10_000;
/** And for so many times as long as it took, so that large trees take one percent of a thread at the most. */
const GOOD_FOR_TIMES = 100;
/** Trees that took less than this are counted many at a time. */
const SMALL_MS = 1;
const AT_A_TIME = 64;
/** How long a call waits for the first reading of a container. */
const FIRST_WITHIN_MS = 250;

/**
 * What containers have written, into their writable layers and into the volumes that
 * their images declare. No file system tells, so that files are counted, on a pool
 * thread, behind the calls: those get the last reading with its time, and so have it
 * counted again when it is old.
 */
export class WritableLayers {
  private readonly readings = new WeakMap<Container, Reading>();
  private readonly waiting = new Set<Container>();
  private counting: Promise<void> | undefined;

  constructor(
    private readonly containers: Pick<Containers, 'paths' | 'list'>,
    private readonly log: Logger,
  ) {}

  /** The last reading; undefined when there is none yet. */
  of(container: Container): Written | undefined {
    return this.readings.get(container);
  }

  /** Has old readings taken again; resolves when none is missing, or after a moment. */
  async refresh(containers: readonly Container[]): Promise<void> {
    const now = Date.now();
    for (const container of containers) if (this.isOld(container, now)) this.waiting.add(container);
    if (this.waiting.size > 0) this.counting ??= this.count();
    if (!this.counting || containers.every(container => this.readings.has(container))) return;
    const end = new AbortController();
    await Promise.race([
      this.counting,
      sleep(FIRST_WITHIN_MS, undefined, { signal: end.signal }).catch(() => undefined),
    ]);
    end.abort();
  }

  /** Of all containers together, as far as known, with the time of the oldest reading. */
  async total(): Promise<Written> {
    const all = this.containers.list();
    await this.refresh(all);
    const readings = all.flatMap(container => this.readings.get(container) ?? []);
    return {
      takenAtMs: Math.min(Date.now(), ...readings.map(({ takenAtMs }) => takenAtMs)),
      bytes: readings.reduce((sum, { bytes }) => sum + bytes, 0),
      inodes: readings.reduce((sum, { inodes }) => sum + inodes, 0),
    };
  }

  /** A container that has ended writes no more. */
  private isOld(container: Container, now: number): boolean {
    const reading = this.readings.get(container);
    if (!reading) return true;
    const { state, finishedAtNs } = container.record;
    if (state === 'exited' && reading.takenAtMs * 1e6 > Number(finishedAtNs)) return false;
    return now - reading.takenAtMs > Math.max(GOOD_FOR_MS, reading.ms * GOOD_FOR_TIMES);
  }

  private async count(): Promise<void> {
    try {
      while (this.waiting.size > 0) await this.take(this.next());
    } catch (error) {
      this.waiting.clear();
      this.log.warn(`could not count what containers have written: ${messageOf(error)}`);
    } finally {
      this.counting = undefined;
    }
  }

  /** Small trees together; a large one, or one that nobody knows, by itself and after them. */
  private next(): Container[] {
    const all = [...this.waiting];
    const small = all.filter(container => (this.readings.get(container)?.ms ?? Infinity) < SMALL_MS);
    return small.length > 0 ? small.slice(0, AT_A_TIME) : all.slice(0, 1);
  }

  private async take(some: readonly Container[]): Promise<void> {
    for (const container of some) this.waiting.delete(container);
    const takenAtMs = Date.now();
    const from = performance.now();
    const trees = some.flatMap(container => this.treesOf(container));
    const cells = await addon().treeUsage(trees.join('\0'));
    const ms = (performance.now() - from) / some.length;
    some.forEach((container, i) => {
      const [bytes = NaN, inodes = NaN, moreBytes = NaN, moreInodes = NaN] = cells.subarray(i * 4, i * 4 + 4);
      const known = { bytes: bytes + (moreBytes || 0), inodes: inodes + (moreInodes || 0) };
      // One that cannot be read has just been removed.
      if (!Number.isNaN(bytes)) this.readings.set(container, { takenAtMs, ms, ...known });
    });
  }

  private treesOf({ record }: Container): [string, string] {
    const { dir, upper } = this.containers.paths(record.id);
    return [upper, join(dir, 'volumes')];
  }
}
