import { createReadStream, statSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { resolve } from 'node:path';
import { BerthError, errnoOf, isAbsent } from '../base/errors';
import type { Conversation } from './client';

/** An archive that a person named: a directory, which the daemon reads itself, or bytes, which it is sent. */
export type ArchiveInput =
  { readonly directory: string; readonly what: string } | { readonly bytes: Readable; readonly what: string };

/** What `-`, a file or a directory means; without a name, stdin, unless that is a terminal. */
export function archiveInput(path: string | undefined, hint: string): ArchiveInput {
  if (path === undefined || path === '-') {
    if (process.stdin.isTTY)
      throw new BerthError('invalid_argument', 'stdin is a terminal, and no archive is named', { hint });
    return { bytes: process.stdin, what: 'stdin' };
  }
  try {
    if (statSync(path).isDirectory()) return { directory: resolve(path), what: path };
    return { bytes: createReadStream(path, { highWaterMark: 256 * 1024 }), what: path };
  } catch (error) {
    const why = isAbsent(error) ? 'there is no such file or directory' : (errnoOf(error) ?? 'it cannot be read');
    throw new BerthError('not_found', `${path}: ${why}`, { cause: error });
  }
}

/**
 * Sends the start of a call and what there is to read after it, no faster than it is taken. The replies are read
 * meanwhile: they say when the call has ended early. Rejects when the reading fails.
 */
export async function sendArchive<Request>(
  talk: Conversation<Request, unknown>,
  start: Request,
  bytes: Readable | undefined,
  piece: (data: Buffer) => Request,
): Promise<void> {
  await talk.say(start);
  try {
    if (bytes) for await (const chunk of bytes) await talk.say(piece(chunk as Buffer));
  } catch (error) {
    throw new BerthError('internal', `read the archive: ${errnoOf(error) ?? 'it cannot be read'}`, { cause: error });
  }
  talk.end();
}
