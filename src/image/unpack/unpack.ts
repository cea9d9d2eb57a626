import { createHash } from 'node:crypto';
import { Transform, type Readable } from 'node:stream';
import { BerthError, messageOf, type ErrorKind } from '../../base/errors';
import { runUnpack, UnpackFailure } from '../../native/unpack-process';
import { algorithmOf, hexOf, sha256, type Digest } from '../digest';
import type { Descriptor } from '../documents';

export interface UnpackRequest {
  readonly layer: Descriptor;
  /** What the image config says that the uncompressed bytes are. */
  readonly diffId: Digest;
  /** Empty, and emptied by the caller if this fails. */
  readonly dir: string;
  /** The layers below, top first; 'none' when this is the lowest, 'unknown' when they are not there yet. */
  readonly below: readonly string[] | 'none' | 'unknown';
  readonly onBytes?: (total: number) => void;
}

export interface Unpacked {
  readonly diskBytes: number;
  readonly inodes: number;
  /** The layer hides all that is below it. */
  readonly opaqueRoot: boolean;
}

/** A layer whose result is right only on top of the layers below it. */
export const needsChain = Symbol('needs chain');

/** An uncompressed layer may be this large, or this many times its compressed size: more is a bomb. */
const plainBytesMax = 1024 ** 3;
const ratioMax = 200;

/**
 * Writes the layer that `bytes` hold below `dir` while they arrive, and compares
 * what came with what was announced. With `below` 'unknown' it may answer
 * `needsChain`: `dir` is then of no use, and the bytes are needed again.
 */
export async function unpackLayer(
  request: UnpackRequest,
  bytes: Readable,
  signal: AbortSignal,
): Promise<Unpacked | typeof needsChain> {
  const { layer, diffId, dir, below } = request;
  const meter = new Meter(layer, request.onBytes);
  bytes.once('error', error => meter.destroy(error));
  const max = Math.max(plainBytesMax, layer.sizeBytes * ratioMax);
  const mode = below === 'none' ? ['base'] : below === 'unknown' ? ['alone'] : ['above', ...below];
  try {
    const summary = await runUnpack(['layer', dir, String(max), ...mode], { input: bytes.pipe(meter), signal });
    if (summary.get('links-below') === '1') return needsChain;
    compare(layer, diffId, summary, meter);
    return below === 'unknown' && summary.get('implied') === '1' ? needsChain : toUnpacked(summary);
  } catch (error) {
    if (!(error instanceof UnpackFailure)) throw error;
    if (error.step === 'truncated' && meter.bytes < layer.sizeBytes) throw wrongSize(layer, String(meter.bytes));
    throw explain(layer, error);
  } finally {
    bytes.destroy();
  }
}

/** Removes a directory with all that is below, however much that is, without work for the event loop. */
export async function removeDirectory(dir: string): Promise<void> {
  await runUnpack(['remove', dir]);
}

/** Puts the file system that holds `dir` on disk. */
export async function syncFileSystem(dir: string): Promise<void> {
  await runUnpack(['sync', dir]);
}

/** Counts what passes, and stops a stream that is longer than announced. */
class Meter extends Transform {
  bytes = 0;
  /** berth-unpack knows SHA-256 only; the rare layer with another name is hashed here. */
  private readonly hash;

  constructor(
    private readonly layer: Descriptor,
    private readonly onBytes: ((total: number) => void) | undefined,
  ) {
    super({ highWaterMark: 1024 * 1024 });
    const algorithm = algorithmOf(layer.digest);
    this.hash = algorithm === 'sha256' ? undefined : createHash(algorithm);
  }

  override _transform(chunk: Buffer, _encoding: string, done: (error: Error | null, chunk?: Buffer) => void): void {
    this.bytes += chunk.length;
    if (this.bytes > this.layer.sizeBytes) {
      done(wrongSize(this.layer, `more than ${this.layer.sizeBytes}`));
      return;
    }
    this.hash?.update(chunk);
    this.onBytes?.(this.bytes);
    done(null, chunk);
  }

  hexDigest(): string | undefined {
    return this.hash?.digest('hex');
  }
}

function compare(layer: Descriptor, diffId: Digest, summary: ReadonlyMap<string, string>, meter: Meter): void {
  if (meter.bytes !== layer.sizeBytes) throw wrongSize(layer, String(meter.bytes));
  const hex = meter.hexDigest() ?? summary.get('compressed-sha256') ?? '';
  if (hex !== hexOf(layer.digest))
    throw new BerthError(
      'data_loss',
      `layer ${layer.digest}: what came has digest ${algorithmOf(layer.digest)}:${hex}`,
      {
        hint: 'the registry, or something before it, is damaged',
      },
    );
  const found = sha256(summary.get('sha256') ?? '');
  if (found !== diffId)
    throw new BerthError(
      'data_loss',
      `layer ${layer.digest}: its contents have diff id ${found}, and the image config says ${diffId}`,
      {
        hint: 'the image is damaged; build and push it again',
      },
    );
}

function toUnpacked(summary: ReadonlyMap<string, string>): Unpacked {
  return {
    diskBytes: Number(summary.get('disk-bytes')),
    inodes: Number(summary.get('inodes')),
    opaqueRoot: summary.get('opaque-root') === '1',
  };
}

function wrongSize(layer: Descriptor, got: string): BerthError {
  return new BerthError(
    'data_loss',
    `layer ${layer.digest}: ${got} bytes came, and ${layer.sizeBytes} were announced`,
    {
      hint: 'the registry, or something before it, is damaged',
    },
  );
}

/* ---- the words of native/unpack, as sentences ---- */

const formatErrors: Partial<Record<string, string>> = {
  truncated: 'it ends early',
  gzip: 'its gzip data is damaged, or something follows it',
  checksum: 'a tar header has a wrong checksum',
  garbage: 'something follows the end of its tar archive',
  size: 'a tar header has an impossible size',
  pax: 'a PAX header is malformed',
  number: 'a tar header has a malformed number',
  device: 'a tar header has an impossible device number',
  owner: 'a tar header has an impossible owner',
  sparse: 'its map of a sparse file is malformed',
};

const limitErrors: Partial<Record<string, string>> = {
  'too-large': `it grows to more than ${ratioMax} times its size`,
  entries: 'it has more than 10 million entries',
  'extension-size': 'a PAX header or a long name is too long',
  'pax-xattrs': 'an entry has more than 128 extended attributes',
  'name-length': 'a name is longer than 4095 bytes',
  'sparse-map': 'a sparse file has more than a million pieces',
  memory: 'it needs too much memory to unpack',
};

const refusals: Partial<Record<string, string>> = {
  escapes: 'the name leads out of the image',
  'link-escapes': 'the link leads out of the image',
  whiteout: 'the whiteout names nothing that it could hide',
  'link-target': 'the file that it links to does not exist',
  'sparse-version': 'its form of sparse file is not known',
  type: 'entries of its type are not supported',
  root: 'the root of an image must be a directory',
};

const errnoWords: Partial<Record<string, string>> = {
  ENOSPC: 'no space left on device',
  EDQUOT: 'the disk quota is used up',
  EROFS: 'the file system is read-only',
  EIO: 'the disk reports an input/output error',
  ENOTDIR: 'a part of its path is not a directory',
  ELOOP: 'too many symbolic links in its path',
  ENAMETOOLONG: 'a name is too long for the file system',
  E2BIG: 'its extended attributes are too large for the file system',
  EMLINK: 'too many hard links to one file',
};

function explain(layer: Descriptor, failure: UnpackFailure): BerthError {
  const { step, errno, path } = failure;
  const entry = path === '' || step === 'compression' ? '' : ` entry ${JSON.stringify(path)}:`;
  const say = (kind: ErrorKind, why: string, hint?: string) =>
    new BerthError(kind, `layer ${layer.digest}:${entry} ${why}`, {
      cause: failure,
      ...(hint === undefined ? {} : { hint }),
    });
  if (errno === 'ENOSPC' || errno === 'EDQUOT')
    return say('resource_exhausted', errnoWords[errno] ?? errno, 'free some space and pull again');
  if (step === 'compression')
    return say('failed_precondition', `it is compressed with ${path}, which this berth cannot read`);
  const format = formatErrors[step];
  if (format !== undefined) return say('data_loss', format, 'the image is damaged; build and push it again');
  const refused = limitErrors[step] ?? refusals[step];
  if (refused !== undefined) return say('failed_precondition', refused, 'such a layer is refused');
  if (step === 'died') return say('internal', `unpacking ended without a word (${messageOf(path)})`);
  return say('internal', `${step}: ${errnoWords[errno] ?? errno}`);
}
