import { createHash } from 'node:crypto';
import type { RecordTable } from '../sandbox/sandboxes';
import type { BuiltLayer, Workshop } from '../image/workshop';
import type { Digest } from '../image/digest';

/** What a step's result depends on, by name: texts, or digests of what is long. */
export type Inputs = Readonly<Record<string, string>>;

/** The result of a step, as it is stored. */
export interface CacheRecord {
  readonly version: 1;
  readonly key: string;
  /** The step as it stands in its Dockerfile, and its stage: two records with the same are told apart by their inputs. */
  readonly step: string;
  readonly inputs: Inputs;
  /** Absent: the step has changed nothing. */
  readonly layer?: {
    readonly key: string;
    readonly digest: Digest;
    readonly sizeBytes: number;
    readonly mediaType: string;
  };
  readonly createdAtMs: number;
  /**
   * The cache source that it came from; absent where the step was done here. Such a record is no result: it keeps the layer
   * here for the next build that names the source, which is asked again then.
   */
  readonly from?: string;
}

export type Lookup =
  | { readonly hit: true; readonly layer: BuiltLayer | undefined; readonly createdAtMs: number; readonly why: string }
  | { readonly hit: false; readonly why: string };

/** The results of steps, by what they depend on. Only what was made here counts; see `CacheSources` for what others have made. */
export class BuildCache {
  private readonly records = new Map<string, CacheRecord>();
  /** Layer keys and blob digests of the records. */
  private readonly names = new Map<string, number>();

  constructor(private readonly table: RecordTable<CacheRecord>) {
    for (const record of table.list()) this.remember(record);
  }

  /** Whether a record has this layer key or blob digest. */
  has(name: string): boolean {
    return this.names.has(name);
  }

  list(): CacheRecord[] {
    return [...this.records.values()];
  }

  /** The result for exactly these inputs, if its layer is here; else why there is none. */
  async find(workshop: Workshop, step: string, inputs: Inputs): Promise<Lookup> {
    const key = keyOf(inputs);
    const record = this.records.get(key);
    if (!record) return { hit: false, why: this.whyMissed(step, inputs) };
    const when = new Date(record.createdAtMs).toISOString().slice(0, 19).replace('T', ' ');
    const { createdAtMs } = record;
    const why = `the same inputs as on ${when}`;
    if (!record.layer) return { hit: true, layer: undefined, createdAtMs, why: `${why}, without a change` };
    const layer = await workshop.find(record.layer.key, record.layer);
    if (layer) return { hit: true, layer, createdAtMs, why };
    await this.forget(record);
    return { hit: false, why: `its inputs are those of ${when}, and the layer is not here any more` };
  }

  /** Returns when it was made. */
  async put(step: string, inputs: Inputs, layer: BuiltLayer | undefined): Promise<number> {
    const record: CacheRecord = {
      ...{ version: 1, key: keyOf(inputs), step, inputs, createdAtMs: Date.now() },
      ...(layer ? { layer: { key: layer.layer.key, ...layer.descriptor } } : {}),
    };
    await this.store(record);
    return record.createdAtMs;
  }

  private async store(record: CacheRecord): Promise<void> {
    const before = this.records.get(record.key);
    if (before) this.unremember(before);
    this.remember(record);
    await this.table.put(record.key, record);
  }

  /** Keeps a layer that a cache source has given for these inputs. */
  async keep(from: string, step: string, inputs: Inputs, layer: BuiltLayer, createdAtMs: number): Promise<void> {
    const key = digestText(`${keyOf(inputs)} ${from}`);
    const before = this.records.get(key)?.layer;
    const kept = { key: layer.layer.key, ...layer.descriptor };
    if (before?.key === kept.key && before.digest === kept.digest) return;
    await this.store({ version: 1, key, step, inputs, createdAtMs, from, layer: kept });
  }

  async forget(record: CacheRecord): Promise<void> {
    if (this.records.get(record.key) !== record) return;
    this.unremember(record);
    await this.table.remove(record.key);
  }

  /** What differs from the newest result of the same step. */
  private whyMissed(step: string, inputs: Inputs): string {
    const others = this.list().filter(record => record.step === step && record.from === undefined);
    const last = others.reduce<CacheRecord | undefined>(
      (newest, record) => (newest && newest.createdAtMs >= record.createdAtMs ? newest : record),
      undefined,
    );
    if (!last) return 'this step was never run here';
    const changed = [...new Set([...Object.keys(last.inputs), ...Object.keys(inputs)])].filter(
      name => last.inputs[name] !== inputs[name],
    );
    return `${changed.map(name => wordsFor(name, last.inputs[name], inputs[name])).join('; ')}`;
  }

  private remember(record: CacheRecord): void {
    this.records.set(record.key, record);
    for (const name of namesOf(record)) this.names.set(name, (this.names.get(name) ?? 0) + 1);
  }

  private unremember(record: CacheRecord): void {
    this.records.delete(record.key);
    for (const name of namesOf(record)) {
      const left = (this.names.get(name) ?? 0) - 1;
      if (left > 0) this.names.set(name, left);
      else this.names.delete(name);
    }
  }
}

function namesOf({ layer }: CacheRecord): string[] {
  return layer ? [layer.key, layer.digest] : [];
}

function wordsFor(name: string, before: string | undefined, now: string | undefined): string {
  if (name === 'below') return 'what it stands on has changed';
  if (before === undefined) return `${name} is new`;
  if (now === undefined) return `${name} is gone`;
  return `${name} has changed`;
}

/** Of texts that may be long. */
export function digestText(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** The name of a result. */
export function keyOf(inputs: Inputs): string {
  return digestText(JSON.stringify(Object.entries(inputs).sort(([a], [b]) => (a < b ? -1 : 1))));
}
