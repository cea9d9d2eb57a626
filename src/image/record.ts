import type { Versioned } from '../store/store';
import type { Digest } from './digest';
import type { ImageConfig } from './documents';

/** An image in the store, by id. */
export interface ImageRecord {
  readonly version: 2;
  /** The digest of the config. */
  readonly id: Digest;
  /** In full: `docker.io/library/busybox:1`. A tag is in one record only, or in several for as many platforms. */
  readonly tags: readonly string[];
  /** In full: `docker.io/library/busybox@sha256:…`. */
  readonly digests: readonly string[];
  readonly config: ImageConfig;
  /** The runtime handler that it was pulled for; empty for any. */
  readonly runtimeHandler: string;
  /** From the base up. */
  readonly layerKeys: readonly string[];
  /** The documents that are kept (index, manifest, config), and layer blobs where they are. */
  readonly content: readonly { readonly digest: Digest; readonly sizeBytes: number }[];
  readonly pinned: boolean;
}

export function upgradeImage(old: Versioned): ImageRecord | undefined {
  if (old.version !== 1) return undefined;
  return { ...(old as unknown as ImageRecord), version: 2, runtimeHandler: '' };
}
