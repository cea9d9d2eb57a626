import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { BerthError, isAbsent, messageOf } from '../base/errors';
import type { Logger } from '../base/log';

/** A write of a record that the store may not have yet; no value is a removal. */
export interface JournalEntry {
  table: string;
  key: string;
  value: Buffer | undefined;
}

/** Length and checksum of what follows. */
const FRAME_BYTES = 8;

/**
 * Writes that are on their way into the store, in a file on a tmpfs: a write(2) to it waits for no disk, and a killed
 * process keeps it. A reboot loses it, and with it the writes of the last moments that no disk had.
 */
export class Journal {
  private length: number;

  private constructor(
    private readonly fd: number,
    private readonly path: string,
    private readonly header: Buffer,
    end: number,
  ) {
    this.length = end;
  }

  /**
   * Opens the journal of the store `storeId`, or makes one; with what a killed process had left in it, in order. One of
   * another store is emptied: it belongs to what lay in this directory before.
   */
  static open(path: string, storeId: string, log: Logger): { journal: Journal; entries: JournalEntry[] } {
    const header = Buffer.from(`berth journal 1 ${storeId}\n`);
    try {
      const content = readIfThere(path);
      const isOurs = content.subarray(0, header.length).equals(header);
      if (!isOurs && content.length > 0) log.warn('the journal is of another store, and is begun anew', { path });
      const { entries, end } = isOurs ? entriesOf(content, header.length) : { entries: [], end: 0 };
      const journal = new Journal(openSync(path, 'a', 0o600), path, header, end);
      journal.truncate(end);
      if (end === 0) journal.write(header);
      return { journal, entries };
    } catch (error) {
      throw new BerthError('internal', `open the journal ${path}: ${messageOf(error)}`, { cause: error });
    }
  }

  get bytes(): number {
    return this.length - this.header.length;
  }

  /** Adds an entry, at once. Throws, and adds nothing, when there is no room. */
  append(entry: JournalEntry): void {
    this.write(frameOf(entry));
  }

  /** All of it is in the store. */
  clear(): void {
    if (this.bytes > 0) this.truncate(this.header.length);
  }

  close(): void {
    closeSync(this.fd);
  }

  private write(bytes: Buffer): void {
    try {
      if (writeSync(this.fd, bytes) === bytes.length) {
        this.length += bytes.length;
        return;
      }
    } catch (error) {
      this.truncate(this.length);
      throw this.failure(messageOf(error), error);
    }
    this.truncate(this.length);
    throw this.failure('no space left on device');
  }

  private truncate(length: number): void {
    ftruncateSync(this.fd, length);
    this.length = length;
  }

  private failure(reason: string, cause?: unknown): BerthError {
    return new BerthError('resource_exhausted', `write to the journal ${this.path}: ${reason}`, {
      cause,
      hint: 'free some space on its file system',
    });
  }
}

function readIfThere(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    if (isAbsent(error)) return Buffer.alloc(0);
    throw error;
  }
}

/** Up to the first that is not whole: its writer was killed, and told nobody that it is there. */
function entriesOf(content: Buffer, start: number): { entries: JournalEntry[]; end: number } {
  const entries: JournalEntry[] = [];
  let at = start;
  while (content.length - at >= FRAME_BYTES) {
    const length = content.readUInt32LE(at);
    const payload = content.subarray(at + FRAME_BYTES, at + FRAME_BYTES + length);
    if (payload.length < length || crc32(payload) !== content.readUInt32LE(at + 4)) break;
    entries.push(entryOf(payload));
    at += FRAME_BYTES + length;
  }
  return { entries, end: at };
}

/** `u16` bytes of the table's name, `u16` of the key, whether there is a value, and these three. */
function frameOf({ table, key, value }: JournalEntry): Buffer {
  const [tableBytes, keyBytes] = [Buffer.byteLength(table), Buffer.byteLength(key)];
  const head = FRAME_BYTES + 5;
  const frame = Buffer.allocUnsafe(head + tableBytes + keyBytes + (value?.length ?? 0));
  frame.writeUInt16LE(tableBytes, FRAME_BYTES);
  frame.writeUInt16LE(keyBytes, FRAME_BYTES + 2);
  frame.writeUInt8(value ? 1 : 0, FRAME_BYTES + 4);
  frame.write(table, head);
  frame.write(key, head + tableBytes);
  if (value) frame.set(value, head + tableBytes + keyBytes);
  frame.writeUInt32LE(frame.length - FRAME_BYTES, 0);
  frame.writeUInt32LE(crc32(frame.subarray(FRAME_BYTES)), 4);
  return frame;
}

function entryOf(payload: Buffer): JournalEntry {
  const tableEnd = 5 + payload.readUInt16LE(0);
  const keyEnd = tableEnd + payload.readUInt16LE(2);
  return {
    table: payload.toString('utf8', 5, tableEnd),
    key: payload.toString('utf8', tableEnd, keyEnd),
    value: payload.readUInt8(4) === 1 ? payload.subarray(keyEnd) : undefined,
  };
}
