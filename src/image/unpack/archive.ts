import { open, readdir } from 'node:fs/promises';
import { BerthError } from '../../base/errors';
import { runUnpack, UnpackFailure } from '../../native/unpack-process';
import { parseDigest, type Digest } from '../digest';
import { notConfined } from './unpack';

/** An archive in a file of ours; plain, gzip or zstd. */
export interface ArchiveFile {
  readonly path: string;
  readonly sizeBytes: number;
}

/** What an archive is, seen from outside. */
export interface Measured {
  /** Of the bytes as they are in the file. */
  readonly digest: Digest;
  /** Of the tar within. */
  readonly diffId: Digest;
}

/** What was to be unpacked holds no tar. */
export class NoArchive extends BerthError {}

/** More than this many times its size, and more than a gigabyte, is a bomb. */
const plainBytesMax = 1024 ** 3;
const ratioMax = 200;

/** Unpacks an archive below `dir`, which is empty and private, by the program that unpacks layers; `what` names it in errors. */
export async function unpackArchive(
  archive: ArchiveFile,
  dir: string,
  what: string,
  signal: AbortSignal,
): Promise<Measured> {
  const max = Math.max(plainBytesMax, archive.sizeBytes * ratioMax);
  const args = [
    'layer',
    ...['--dir', dir, '--mode', 'base'],
    ...['--size', String(archive.sizeBytes), '--max-bytes', String(max)],
    ...['--digest', 'sha256', '--diff-id', 'sha256'],
  ];
  await using file = await open(archive.path, 'r');
  try {
    const summary = await runUnpack(args, { input: { file: file.fd }, signal });
    return {
      digest: parseDigest(summary.get('digest') ?? '', what),
      diffId: parseDigest(summary.get('diff-id') ?? '', what),
    };
  } catch (error) {
    if (!(error instanceof UnpackFailure)) throw error;
    const { kind, message } = explain(error, what);
    const Failure = (await isNone(error, dir)) ? NoArchive : BerthError;
    throw new Failure(kind, message, { cause: error });
  }
}

/** Not even its first header is one. */
async function isNone({ step, path }: UnpackFailure, dir: string): Promise<boolean> {
  return (step === 'checksum' || step === 'truncated') && path === '' && (await readdir(dir)).length === 0;
}

const refusals: Partial<Record<string, string>> = {
  truncated: 'it ends early',
  checksum: 'it is no tar archive, or a damaged one',
  garbage: 'something follows its end',
  gzip: 'its compressed data is damaged',
  zstd: 'its compressed data is damaged',
  xz: 'its compressed data is damaged',
  bzip2: 'its compressed data is damaged',
  'zstd-window': 'its zstd data asks for a window of more than 128 MiB',
  'xz-memory': 'its xz data asks for more than 128 MiB of memory',
  escapes: 'the name leads out of it',
  'link-escapes': 'the link leads out of it',
  'link-target': 'the file that it links to does not exist',
  'extension-size': 'a header in it is too long',
  'name-length': 'a name in it is too long',
  depth: 'its directories are too deep',
  entries: 'it has too many entries',
  'too-large': `it grows to more than ${ratioMax} times its size`,
};

function explain(failure: UnpackFailure, what: string): BerthError {
  const { step, errno, path } = failure;
  if (errno === 'ENOSPC' || errno === 'EDQUOT')
    return new BerthError('resource_exhausted', `${what}: no space left on device`, {
      cause: failure,
      hint: 'free some space and try again',
    });
  if (step === 'confine') return notConfined(`unpack ${what}`, failure);
  const entry = path === '' ? '' : ` entry ${JSON.stringify(path)}:`;
  const why = refusals[step] ?? `it cannot be unpacked (${step})`;
  return new BerthError('failed_precondition', `${what}:${entry} ${why}`, {
    cause: failure,
    hint: 'nothing of it was taken',
  });
}
