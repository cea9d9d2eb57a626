import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Context } from '../base/context';
import { BerthError, isAbsent, messageOf } from '../base/errors';
import { algorithmOf, digestOf, hexOf, parseDigest, type Digest } from './digest';
import { documentBytesMax, parseDocument, tooLarge } from './documents';
import type { BlobBytes, ImageSource } from './source';

const layoutShape = z.object({ imageLayoutVersion: z.string().startsWith('1.') });

/** An OCI image layout (image-spec, image-layout.md): a directory with oci-layout, index.json and blobs/. */
export class LayoutSource implements ImageSource {
  private constructor(private readonly root: string) {}

  static async open(root: string): Promise<LayoutSource> {
    const source = new LayoutSource(root);
    parseDocument(layoutShape, await source.document('oci-layout'), `${root}/oci-layout`);
    return source;
  }

  /** What the layout holds, by platform. */
  index(): Promise<Buffer> {
    return this.document('index.json');
  }

  async manifest(
    _ctx: Context,
    which: string,
  ): Promise<{ digest: Digest; mediaType: string | undefined; bytes: Buffer }> {
    const digest = parseDigest(which, `the image layout ${this.root}`);
    const bytes = await this.document(blobPath(digest));
    return { digest: digestOf(bytes, algorithmOf(digest)), mediaType: undefined, bytes };
  }

  smallBlob(_ctx: Context, digest: Digest): Promise<Buffer> {
    return this.document(blobPath(digest));
  }

  /** From its beginning: Node cannot move a file's position, and a local file is read again in no time. */
  async blob(_ctx: Context, digest: Digest): Promise<BlobBytes> {
    const file = await this.opened(blobPath(digest));
    return { offset: 0, from: this.root, file, close: () => file.close() };
  }

  private async document(name: string): Promise<Buffer> {
    const file = await this.opened(name);
    try {
      const { size } = await file.stat();
      if (size > documentBytesMax) throw tooLarge(join(this.root, name), size);
      return await file.readFile();
    } finally {
      await file.close();
    }
  }

  private async opened(name: string) {
    const path = join(this.root, name);
    try {
      // A FIFO must not wait for its writer.
      const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
      if ((await file.stat()).isFile()) return file;
      await file.close();
    } catch (error) {
      if (isAbsent(error))
        throw new BerthError('not_found', `the image layout ${this.root} has no ${name}`, { cause: error });
      throw new BerthError('failed_precondition', `read ${path}: ${messageOf(error)}`, { cause: error });
    }
    throw new BerthError('failed_precondition', `${path} is not a regular file`);
  }
}

function blobPath(digest: Digest): string {
  return join('blobs', algorithmOf(digest), hexOf(digest));
}
