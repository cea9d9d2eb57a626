import type { ExecSyncResult } from '../container/exec-sync';
import { ExecSyncResponse } from '../cri';
import { encodedPieces } from './encoded';

/** Numbers of the message's fields. */
const FIELD = { stdout: 1, stderr: 2 } as const;

/** The bytes of an ExecSyncResponse, to which output of many megabytes is copied once. */
export function execSyncResponse({ stdout, stderr, exitCode }: ExecSyncResult): ExecSyncResponse {
  const rest = ExecSyncResponse.encode(ExecSyncResponse.fromPartial({ exitCode })).finish();
  return encodedPieces([...bytesField(FIELD.stdout, stdout), ...bytesField(FIELD.stderr, stderr), rest]);
}

/** A field of type `bytes` (wire type 2): tag, length, and the bytes; an empty one is left out. */
function bytesField(field: number, pieces: readonly Buffer[]): Buffer[] {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  return length === 0 ? [] : [Buffer.from([(field << 3) | 2, ...varint(length)]), ...pieces];
}

/** Seven bits a byte, the lowest first, and another bit where more follow. */
function varint(value: number): number[] {
  const low = value & 0x7f;
  return value < 0x80 ? [low] : [low | 0x80, ...varint(value >>> 7)];
}
