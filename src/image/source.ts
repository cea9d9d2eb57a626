import type { FileHandle } from 'node:fs/promises';
import type { Context } from '../base/context';
import type { Digest } from './digest';

/** Where images come from: a registry or a layout directory. Nothing that it hands over is trusted. */
export interface ImageSource {
  /** The document of a tag or digest; its digest is computed from the bytes. */
  manifest(ctx: Context, which: string): Promise<{ digest: Digest; mediaType: string | undefined; bytes: Buffer }>;
  smallBlob(ctx: Context, digest: Digest): Promise<Buffer>;
  /**
   * The bytes of a blob from `offset` on, if the source can skip. `urls` are
   * those of a foreign layer, asked without credentials when nobody else has it.
   */
  blob(ctx: Context, digest: Digest, offset: number, urls?: readonly string[]): Promise<BlobBytes>;
  /** Whether somebody can be asked for a blob who has not handed over anything else in its place yet. */
  hasOther?(digest: Digest): boolean;
}

/**
 * A blob on its way to a process that reads it; it never passes through the main
 * thread. Has either `file` or `pipeTo`. Whoever got it must close it.
 */
export interface BlobBytes {
  /** Of the first byte that comes: the offset asked for, or 0 when the source cannot skip. */
  readonly offset: number;
  /** `https://mirror.example`, or the layout's directory. */
  readonly from: string;
  /** To hand over as the reader's stdin; positioned at `offset`, and closed by `close`. */
  readonly file?: FileHandle;
  /**
   * Writes the bytes into the pipe `fd`, which it closes when it settles.
   * Resolves at the end; rejects with a network error (see `networkReason`) when
   * the connection breaks or stands still, with code EPIPE when the reader is gone,
   * and with the signal's reason.
   */
  pipeTo?(fd: number, signal: AbortSignal): Promise<void>;
  /** What came was not the blob: somebody else is asked first next time. */
  distrust?(): void;
  /** Gives the bytes up. Idempotent. */
  close(): Promise<void>;
}
