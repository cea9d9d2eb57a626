import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../base/errors';
import type { Logger } from '../base/log';
import type { Container, Containers } from '../container/containers';
import { writtenTrees } from '../container/written';
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

/** Bytes and inodes of each of these trees, in turn; NaN for one that is not there. */
type CountTrees = (trees: readonly string[]) => Promise<Float64Array>;

/** A reading is good for so long; the kubelet asks every ten seconds and more. */
const GOOD_FOR_MS = 10_000;
/** And for so many times as long as it took, so that large trees take one percent of a thread at the most. */
const GOOD_FOR_TIMES = 100;
/** Trees that took less than this are counted many at a time. */
const SMALL_MS = 1;
const AT_A_TIME = 64;
/** What is only old is counted when the call that asked for it has its answer: it would take the processor from its readers. */
const COUNT_AFTER_MS = 200;
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
  /** Those that are counted now, and the end of that. */
  private taken: readonly Container[] = [];
  private taking = Promise.resolve();
  private isCounting = false;
  private later: NodeJS.Timeout | undefined;

  constructor(
    private readonly containers: Pick<Containers, 'paths' | 'list'>,
    private readonly log: Logger,
    private readonly countTrees: CountTrees = trees => addon().treeUsage(trees.join('\0')),
    private readonly firstWithinMs = FIRST_WITHIN_MS,
  ) {}

  /** The last reading; undefined when there is none yet. */
  of(container: Container): Written | undefined {
    return this.readings.get(container);
  }

  /** Has old readings taken again, soon; resolves when none of these is missing, or after a moment. */
  async refresh(containers: readonly Container[]): Promise<void> {
    const now = Date.now();
    for (const container of containers) if (this.isOld(container, now)) this.waiting.add(container);
    if (!containers.some(container => this.isAwaited(container))) {
      if (this.waiting.size > 0) this.countLater();
      return;
    }
    if (!this.isCounting) void this.count();
    let isLate = false;
    const end = new AbortController();
    const late = sleep(this.firstWithinMs, undefined, { signal: end.signal }).then(
      () => (isLate = true),
      () => undefined,
    );
    while (!isLate && containers.some(container => this.isAwaited(container))) {
      await Promise.race([this.taking, late]);
    }
    end.abort();
  }

  /** True while its first reading is still to come. */
  private isAwaited(container: Container): boolean {
    return !this.readings.has(container) && (this.waiting.has(container) || this.taken.includes(container));
  }

  /** Of all containers together, as far as known, with the time of the oldest reading of those that may write. */
  async total(): Promise<Written> {
    const all = this.containers.list();
    await this.refresh(all);
    const known = all.flatMap(container => {
      const reading = this.readings.get(container);
      return reading ? [{ container, reading }] : [];
    });
    const readings = known.map(({ reading }) => reading);
    const open = known.filter(({ container, reading }) => !isFinal(container, reading));
    return {
      takenAtMs: Math.min(Date.now(), ...open.map(({ reading }) => reading.takenAtMs)),
      bytes: readings.reduce((sum, { bytes }) => sum + bytes, 0),
      inodes: readings.reduce((sum, { inodes }) => sum + inodes, 0),
    };
  }

  private isOld(container: Container, now: number): boolean {
    const reading = this.readings.get(container);
    if (!reading) return true;
    if (isFinal(container, reading)) return false;
    return now - reading.takenAtMs > Math.max(GOOD_FOR_MS, reading.ms * GOOD_FOR_TIMES);
  }

  private countLater(): void {
    this.later ??= setTimeout(() => {
      this.later = undefined;
      if (!this.isCounting) void this.count();
    }, COUNT_AFTER_MS).unref();
  }

  private async count(): Promise<void> {
    this.isCounting = true;
    while (this.waiting.size > 0) {
      this.taken = this.next();
      for (const container of this.taken) this.waiting.delete(container);
      this.taking = this.take(this.taken).catch((error: unknown) => {
        this.waiting.clear();
        this.log.warn(`could not count what containers have written: ${messageOf(error)}`);
      });
      await this.taking;
      this.taken = [];
    }
    this.isCounting = false;
  }

  /** Small trees together; one that nobody knows by itself and after them, since it may be large; and those that are at last. */
  private next(): Container[] {
    const all = [...this.waiting];
    const small = all.filter(container => (this.readings.get(container)?.ms ?? Infinity) < SMALL_MS);
    if (small.length > 0) return small.slice(0, AT_A_TIME);
    const unknown = all.find(container => !this.readings.has(container));
    return unknown ? [unknown] : all.slice(0, 1);
  }

  private async take(some: readonly Container[]): Promise<void> {
    const takenAtMs = Date.now();
    const from = performance.now();
    const cells = await this.countTrees(some.flatMap(({ record }) => writtenTrees(this.containers.paths(record.id))));
    const ms = (performance.now() - from) / some.length;
    some.forEach((container, i) => {
      const [bytes = NaN, inodes = NaN, moreBytes = NaN, moreInodes = NaN] = cells.subarray(i * 4, i * 4 + 4);
      const known = { bytes: bytes + (moreBytes || 0), inodes: inodes + (moreInodes || 0) };
      // One that cannot be read has just been removed.
      if (!Number.isNaN(bytes)) this.readings.set(container, { takenAtMs, ms, ...known });
    });
  }
}

/** A container that has ended writes no more. */
function isFinal({ record: { state, finishedAtNs } }: Container, { takenAtMs }: Reading): boolean {
  return state === 'exited' && takenAtMs * 1e6 > Number(finishedAtNs);
}
