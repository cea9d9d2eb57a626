import type { Digest } from './digest';
import type { ImageConfig } from './documents';

/** An image in the store, by id. */
export interface ImageRecord {
  readonly version: 1;
  /** The digest of the config. */
  readonly id: Digest;
  /** In full: `docker.io/library/busybox:1`. A tag is in one record only. */
  readonly tags: readonly string[];
  /** In full: `docker.io/library/busybox@sha256:…`. */
  readonly digests: readonly string[];
  readonly config: ImageConfig;
  /** From the base up. */
  readonly layerKeys: readonly string[];
  /** The documents that are kept: index, manifest, config. */
  readonly content: readonly { readonly digest: Digest; readonly sizeBytes: number }[];
  readonly pinned: boolean;
}
