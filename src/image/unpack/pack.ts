import { closeSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { Socket } from 'node:net';
import { BerthError } from '../../base/errors';
import { addon } from '../../native/addon';
import { runUnpack, UnpackFailure } from '../../native/unpack-process';
import { parseDigest, type Digest } from '../digest';
import { notConfined } from './unpack';

/** A small pipe costs half of the speed: its two ends wait for each other. */
const pipeBytes = 1024 * 1024;

export interface PackRequest {
  /** An overlay's upper directory that nobody writes to any more, or any directory. */
  readonly dir: string;
  /** Empty files, open for writing: the layer's blob, and the manifest of its files. */
  readonly blob: FileHandle;
  readonly manifest?: FileHandle;
  /** The layers below, top first; asked for `mountPoints` only. */
  readonly below: readonly string[];
  /** Paths in the container that something was mounted on: what was made to mount it on is not the layer's. */
  readonly mountPoints: readonly string[];
  /** Seconds since 1970: no file is younger, in the blob and in the directory. */
  readonly epochSeconds?: number;
  /** Without compression. */
  readonly plain?: boolean;
}

export interface Packed {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly diffId: Digest;
  /** 0: nothing was changed. */
  readonly entries: number;
  readonly diskBytes: number;
  readonly inodes: number;
  readonly opaqueRoot: boolean;
}

/** Writes a directory as a layer: the same files are the same bytes. */
export async function packLayer(request: PackRequest, signal: AbortSignal): Promise<Packed> {
  const { dir, blob, manifest, below, mountPoints, epochSeconds, plain } = request;
  const args = [
    ...['pack', '--dir', dir, '--blob', '3'],
    ...(manifest ? ['--manifest', '4'] : []),
    ...(plain ? ['--plain'] : []),
    ...(epochSeconds === undefined ? [] : ['--epoch', String(epochSeconds)]),
    ...mountPoints.flatMap(path => ['--stub', path]),
    ...(mountPoints.length > 0 ? below.flatMap(lower => ['--lower', lower]) : []),
  ];
  const fds = [blob.fd, ...(manifest ? [manifest.fd] : [])];
  try {
    return toPacked(await runUnpack(args, { fds, signal }));
  } catch (error) {
    throw error instanceof UnpackFailure ? explain(error) : error;
  }
}

/** The files of a directory, or what an overlay of several (top first) shows, as a plain tar. */
export async function packTree(
  dirs: readonly string[],
  epochSeconds: number | undefined,
  signal: AbortSignal,
  send: (bytes: Buffer) => Promise<void>,
): Promise<void> {
  const epoch = epochSeconds === undefined ? [] : ['--epoch', String(epochSeconds)];
  const args = ['pack', '--blob', '3', '--plain', ...epoch, ...dirs.flatMap(dir => ['--from', dir])];
  const [readEnd, writeEnd] = addon().pipe(pipeBytes);
  const reader = new Socket({ fd: readEnd, readable: true, writable: false });
  const sending = (async () => {
    for await (const chunk of reader as AsyncIterable<Buffer>) await send(chunk);
  })();
  let unsent: unknown;
  sending.catch((error: unknown) => {
    unsent ??= error;
    reader.destroy(); // whoever writes hears of it: EPIPE
  });
  try {
    await runUnpack(args, { fds: [writeEnd], signal });
  } catch (error) {
    const cause = unsent ?? (error instanceof UnpackFailure ? explain(error) : error);
    reader.destroy();
    await sending.catch(() => undefined); // broken off here, or what is the cause
    throw cause;
  } finally {
    closeSync(writeEnd);
  }
  await sending;
}

function toPacked(summary: ReadonlyMap<string, string>): Packed {
  return {
    digest: parseDigest(summary.get('digest') ?? '', 'a packed layer'),
    sizeBytes: Number(summary.get('compressed-bytes')),
    diffId: parseDigest(summary.get('diff-id') ?? '', 'a packed layer'),
    entries: Number(summary.get('entries')),
    diskBytes: Number(summary.get('disk-bytes')),
    inodes: Number(summary.get('inodes')),
    opaqueRoot: summary.get('opaque-root') === '1',
  };
}

const reasons: Partial<Record<string, string>> = {
  depth: 'its directories are more than 512 deep',
  'name-length': 'its path is longer than 4095 bytes',
  'extension-size': 'its extended attributes are too long',
  pointer: 'overlayfs keeps its contents elsewhere (redirect_dir or metacopy), so that the layer would not be whole',
};

function explain(failure: UnpackFailure): BerthError {
  const { step, errno, path } = failure;
  if (step === 'confine') return notConfined('write a layer', failure);
  const what = `write a layer${path === '' ? '' : `: ${JSON.stringify(path)}`}`;
  if (errno === 'ENOSPC' || errno === 'EDQUOT')
    return new BerthError('resource_exhausted', `${what}: no space left on device`, {
      cause: failure,
      hint: 'free some space and try again',
    });
  const why = reasons[step];
  return new BerthError(
    why === undefined ? 'internal' : 'failed_precondition',
    `${what}: ${why ?? `${step} ${errno}`}`,
    {
      cause: failure,
    },
  );
}
