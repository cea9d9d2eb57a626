import type { FileHandle } from 'node:fs/promises';
import { BerthError, messageOf, type ErrorKind } from '../../base/errors';
import { runUnpack, UnpackFailure, type UnpackInput } from '../../native/unpack-process';
import { algorithmOf, type Digest } from '../digest';
import type { Descriptor } from '../documents';

export interface UnpackRequest {
  readonly layer: Descriptor;
  /** What the image config says that the uncompressed bytes are. */
  readonly diffId: Digest;
  /** Empty, and emptied by the caller if this fails. */
  readonly dir: string;
  /** The layers below, top first; 'none' when this is the lowest, 'unknown' when they are not there yet. */
  readonly below: readonly string[] | 'none' | 'unknown';
  /** Open for reading and writing: holds the first bytes of the layer, maybe none, and gets all that come. */
  readonly blob?: FileHandle;
  /** The blob is not kept, and the file left empty, once it seems that less than this is enough for all of it to come. */
  readonly forgetBlobMs?: number;
  /** An empty file, open for writing: gets the manifest of the layer's files (native/unpack/manifest.h). */
  readonly manifest?: FileHandle;
  /** The compressed bytes that have come so far. */
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

/** A layer's compressed bytes on their way to berth-unpack; a BlobBytes of an image source is one. */
export interface LayerBytes {
  /** Of the first byte that comes: what is before it, the request's `blob` holds. */
  readonly offset: number;
  /** A file that is at `offset`. */
  readonly file?: FileHandle;
  /** Writes the bytes into the pipe and closes it, also on failure; rejects when the connection breaks. */
  pipeTo?(fd: number, signal: AbortSignal): Promise<void>;
  /** Gives the bytes up. Idempotent. */
  close(): Promise<void>;
}

/**
 * Writes the layer that `bytes` hold below `dir` while they arrive, and compares
 * what came with what was announced. With `below` 'unknown' it may answer
 * `needsChain`: `dir` is then of no use, and the bytes are needed again.
 */
export async function unpackLayer(
  request: UnpackRequest,
  bytes: LayerBytes,
  signal: AbortSignal,
): Promise<Unpacked | typeof needsChain> {
  const { layer, diffId, below, onBytes } = request;
  try {
    await cutToOffset(request, bytes.offset);
    const summary = await runUnpack(layerArguments(request), {
      input: inputFrom(bytes),
      fds: filesOf(request).map(({ file }) => file.fd),
      signal,
      ...(onBytes && { onProgress: onBytes }),
    });
    if (summary.get('links-below') === '1') return needsChain;
    compare(layer, diffId, summary);
    onBytes?.(layer.sizeBytes);
    return below === 'unknown' && summary.get('implied') === '1' ? needsChain : toUnpacked(summary);
  } catch (error) {
    throw error instanceof UnpackFailure ? explain(layer, error) : error;
  } finally {
    await bytes.close();
  }
}

/** What comes is written behind what the blob holds: that must be what is before the first byte. */
async function cutToOffset({ layer, blob }: UnpackRequest, offset: number): Promise<void> {
  const kept = blob ? (await blob.stat()).size : 0;
  if (kept < offset)
    throw new BerthError('internal', `layer ${layer.digest}: bytes come from ${offset} on, and ${kept} are here`);
  if (kept > offset) await blob?.truncate(offset);
}

/** In the order in which the process gets them, from descriptor 3 on. */
function filesOf({ blob, manifest }: UnpackRequest): { flag: string; file: FileHandle }[] {
  return [
    ...(blob ? [{ flag: '--blob', file: blob }] : []),
    ...(manifest ? [{ flag: '--manifest', file: manifest }] : []),
  ];
}

function layerArguments(request: UnpackRequest): string[] {
  const { layer, diffId, dir, below, forgetBlobMs } = request;
  const max = Math.max(plainBytesMax, layer.sizeBytes * ratioMax);
  const mode = below === 'none' ? 'base' : below === 'unknown' ? 'alone' : 'above';
  return [
    'layer',
    ...['--dir', dir, '--mode', mode],
    ...['--size', String(layer.sizeBytes), '--max-bytes', String(max)],
    ...['--digest', algorithmOf(layer.digest), '--diff-id', algorithmOf(diffId)],
    ...filesOf(request).flatMap(({ flag }, i) => [flag, String(3 + i)]),
    ...(forgetBlobMs === undefined ? [] : ['--forget-ms', String(forgetBlobMs)]),
    ...(typeof below === 'string' ? [] : below.flatMap(lower => ['--lower', lower])),
  ];
}

function inputFrom(bytes: LayerBytes): UnpackInput {
  if (bytes.file) return { file: bytes.file.fd };
  if (bytes.pipeTo) return { fill: bytes.pipeTo.bind(bytes) };
  throw new BerthError('internal', 'a blob that is neither a file nor a stream');
}

/** Removes a directory with all that is below, however much that is, without work for the event loop. */
export async function removeDirectory(dir: string): Promise<void> {
  await runUnpack(['remove', dir]);
}

/** Puts the file system that holds `dir` on disk. */
export async function syncFileSystem(dir: string): Promise<void> {
  await runUnpack(['sync', dir]);
}

function compare(layer: Descriptor, diffId: Digest, summary: ReadonlyMap<string, string>): void {
  const [digest, found] = [summary.get('digest') ?? 'none', summary.get('diff-id') ?? 'none'];
  if (digest !== layer.digest)
    throw new BerthError('data_loss', `layer ${layer.digest}: what came has digest ${digest}`, {
      hint: 'the registry, or something before it, is damaged',
    });
  if (found !== diffId)
    throw new BerthError(
      'data_loss',
      `layer ${layer.digest}: its contents have diff id ${found}, and the image config says ${diffId}`,
      { hint: 'the image is damaged; build and push it again' },
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

/** The process gave up before it read anything. */
export function notConfined(what: string, failure: UnpackFailure): BerthError {
  return new BerthError(
    'failed_precondition',
    `${what}: berth-unpack cannot confine itself: ${failure.path} (${failure.errno})`,
    {
      cause: failure,
      hint: 'berth needs root with all of its capabilities, and Linux 6.8 or newer',
    },
  );
}

/* ---- the words of native/unpack, as sentences ---- */

const formatErrors: Partial<Record<string, string>> = {
  truncated: 'it ends early',
  gzip: 'its gzip data is damaged, or something follows it',
  zstd: 'its zstd data is damaged, or something follows it',
  xz: 'its xz data is damaged, or something follows it',
  bzip2: 'its bzip2 data is damaged, or something follows it',
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
  'zstd-window': 'its zstd data asks for a window of more than 128 MiB',
  'xz-memory': 'its xz data asks for more than 128 MiB of memory',
  'too-large': `it grows to more than ${ratioMax} times its size`,
  entries: 'it has more than 10 million entries',
  'extension-size': 'a PAX header or a long name is too long',
  'pax-xattrs': 'an entry has more than 128 extended attributes',
  'name-length': 'a name is longer than 4095 bytes',
  depth: 'its directories are more than 512 deep',
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

/** What no file system here could hold, by errno, and by step where the errno alone says too little. */
const impossible: Partial<Record<string, string>> = {
  ENOTDIR: 'a part of its path is not a directory',
  ELOOP: 'too many symbolic links in its path',
  ENAMETOOLONG: 'a name is too long for the file system',
  E2BIG: 'its extended attributes are too large for the file system',
  EMLINK: 'too many hard links to one file',
  EFBIG: 'it is larger than a file can be',
  'link EPERM': 'a directory cannot have a second name',
  'copy-up EPERM': 'a directory cannot have a second name',
  'write EINVAL': 'it is larger than a file can be', // lseek's word for it
  'symlink ENOENT': 'a symbolic link must lead somewhere',
  'xattr EINVAL': 'an extended attribute is malformed',
  'xattr ERANGE': 'the name of an extended attribute is too long',
  'xattr EPERM': 'an extended attribute is not allowed on it',
};

const errnoWords: Partial<Record<string, string>> = {
  ENOSPC: 'no space left on device',
  EDQUOT: 'the disk quota is used up',
  EROFS: 'the file system is read-only',
  EIO: 'the disk reports an input/output error',
};

function explain(layer: Descriptor, failure: UnpackFailure): BerthError {
  const { step, errno, path } = failure;
  if (step === 'too-short') return wrongSize(layer, path);
  if (step === 'too-long') return wrongSize(layer, `more than ${layer.sizeBytes}`);
  if (step === 'confine') return notConfined(`unpack layer ${layer.digest}`, failure);
  const entry = path === '' || step === 'died' ? '' : ` entry ${JSON.stringify(path)}:`;
  const say = (kind: ErrorKind, why: string, hint?: string) =>
    new BerthError(kind, `layer ${layer.digest}:${entry} ${why}`, {
      cause: failure,
      ...(hint === undefined ? {} : { hint }),
    });
  if (errno === 'ENOSPC' || errno === 'EDQUOT')
    return say('resource_exhausted', errnoWords[errno] ?? errno, 'free some space and pull again');
  const format = formatErrors[step];
  if (format !== undefined) return say('data_loss', format, 'the image is damaged; build and push it again');
  const refused = limitErrors[step] ?? refusals[step] ?? impossible[`${step} ${errno}`] ?? impossible[errno];
  if (refused !== undefined) return say('failed_precondition', refused, 'such a layer is refused');
  if (step === 'died') return say('internal', `unpacking ended without a word (${messageOf(path)})`);
  return say('internal', `${step}: ${errnoWords[errno] ?? errno}`);
}
