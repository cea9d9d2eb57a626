/** What `Images.check` may find wrong. */
type FindingKind =
  /** An image's record names a layer that is not here. */
  | 'layer-missing'
  /** A layer's files are not those of its manifest. */
  | 'layer-damaged'
  /** A layer from before layers had manifests: nothing can be said of its files. */
  | 'layer-unverifiable'
  /** A document (index, manifest, config) or a kept layer blob is not here. */
  | 'blob-missing'
  /** A document or a kept layer blob has another digest than its name says. */
  | 'blob-damaged'
  /** A directory below `layers` that no record knows. */
  | 'orphan-directory'
  /** A blob that no image needs. */
  | 'orphan-blob'
  /** The beginning of a layer that no pull is fetching. */
  | 'partial-leftover';

/** One thing that is not as it should be. */
export interface Finding {
  readonly kind: FindingKind;
  /** A layer's key, a blob's digest, or a path. */
  readonly subject: string;
  /** One clause: what is wrong with it. */
  readonly detail: string;
  /** Of the images that it touches: a tag, else a digest, else the id. */
  readonly images: readonly string[];
  /** Taken on the disk, where that is known. */
  readonly sizeBytes: number;
  readonly repair: 'not asked' | 'done' | 'failed';
  /** Why the repair failed, and what to do next. */
  readonly repairError?: string;
}

export interface CheckSummary {
  readonly layers: number;
  readonly blobs: number;
  readonly findings: number;
  readonly repaired: number;
  /** What images take on the disk after the check. */
  readonly usedBytes: bigint;
}

type CheckEvent =
  | { readonly type: 'progress'; readonly done: number; readonly total: number }
  | { readonly type: 'finding'; readonly finding: Finding }
  | { readonly type: 'summary'; readonly summary: CheckSummary };

export interface CheckOptions {
  /** Fetches what is damaged or missing again, and removes what nobody needs. */
  readonly repair: boolean;
}

/** The form of `Images.check(ctx, options)`: ends with exactly one summary; ends early when `ctx` does. */
export type Check = AsyncGenerator<CheckEvent, void, undefined>;
