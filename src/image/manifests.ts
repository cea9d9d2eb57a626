import { open, type FileHandle } from 'node:fs/promises';
import { BerthError, isAbsent } from '../base/errors';
import type { Layer } from './snapshot/layers';

/** Of one read, and of one message to whoever asked. */
const PIECE_BYTES = 128 * 1024;

/** Reads what a layer's manifest says, piece by piece and in order; `send` says when it takes more. */
export async function readManifest(layer: Layer, send: (piece: Buffer) => Promise<void>): Promise<void> {
  await using file = await openManifest(layer);
  for (;;) {
    // A piece of memory for each: who sends one may still hold it.
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafeSlow(PIECE_BYTES), 0, PIECE_BYTES);
    if (bytesRead === 0) return;
    await send(buffer.subarray(0, bytesRead));
  }
}

async function openManifest({ diffId, manifestPath, hasManifest }: Layer): Promise<FileHandle> {
  if (!hasManifest) {
    throw new BerthError(
      'failed_precondition',
      `layer ${diffId} has no list of its files: an older berth unpacked it`,
      {
        hint: 'remove the image and pull it again',
      },
    );
  }
  try {
    return await open(manifestPath);
  } catch (error) {
    if (!isAbsent(error)) throw error;
    throw new BerthError('data_loss', `the list of the files of layer ${diffId} is gone`, {
      cause: error,
      hint: 'repair it with: berth check --repair',
    });
  }
}
