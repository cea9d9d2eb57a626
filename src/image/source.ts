import type { Readable } from 'node:stream';
import type { Context } from '../base/context';
import type { Digest } from './digest';

/** Where images come from: a registry or a layout directory. Nothing that it hands over is trusted. */
export interface ImageSource {
  /** The document of a tag or digest; its digest is computed from the bytes. */
  manifest(ctx: Context, which: string): Promise<{ digest: Digest; mediaType: string | undefined; bytes: Buffer }>;
  smallBlob(ctx: Context, digest: Digest): Promise<Buffer>;
  blob(ctx: Context, digest: Digest): Promise<Readable>;
}
