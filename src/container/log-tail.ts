import type { FileHandle } from 'node:fs/promises';
import { endsLine, NEWLINE, parseRecord, type LogRecord, type LogStream } from './log-records';

/** For each stream, where in the file what is wanted of it begins. */
export type LogStart = Readonly<Record<LogStream, number>>;

const BLOCK_BYTES = 65536;
/** How far before the tail the first part of a long line is looked for. */
const LOOK_BACK_BYTES = 1024 * 1024;
/** A line longer than this is no record: the file is not a log. */
const LINE_MAX_BYTES = 1024 * 1024;

/**
 * Where the last `lines` lines of the file's first `size` bytes begin, counted
 * over both streams. A line may be several records with the other stream's
 * between them, which is why each stream has a beginning of its own. Reads from
 * the end, and no more than it needs.
 */
export async function startOfTail(file: FileHandle, size: number, lines: number): Promise<LogStart> {
  const tail = new Tail(size, lines);
  if (lines === 0) return tail.start;
  for await (const record of recordsBackward(file, size)) {
    tail.take(record);
    if (tail.isComplete(record.offset)) break;
  }
  return tail.start;
}

class Tail {
  readonly start: Record<LogStream, number>;
  private readonly hasLine = { stdout: false, stderr: false };
  private readonly isDone = { stdout: false, stderr: false };
  private lines = 0;
  private fullAt = 0;

  constructor(
    size: number,
    private readonly wanted: number,
  ) {
    this.start = { stdout: size, stderr: size };
  }

  /** Takes the records from the last to the first. */
  take(record: LogRecord): void {
    const { stream, offset } = record;
    const endsOne = endsLine(record) || !this.hasLine[stream];
    if (this.isDone[stream]) return;
    if (endsOne && this.lines === this.wanted) {
      this.isDone[stream] = true;
      return;
    }
    this.start[stream] = offset;
    this.hasLine[stream] = true;
    if (endsOne && ++this.lines === this.wanted) this.fullAt = offset;
  }

  isComplete(offset: number): boolean {
    if (this.lines < this.wanted) return false;
    const isOpen = (stream: LogStream) => this.hasLine[stream] && !this.isDone[stream];
    return !(isOpen('stdout') || isOpen('stderr')) || this.fullAt - offset > LOOK_BACK_BYTES;
  }
}

async function* recordsBackward(file: FileHandle, size: number): AsyncGenerator<LogRecord> {
  let rest: Buffer = Buffer.alloc(0);
  for (let at = size; at > 0;) {
    const length = Math.min(BLOCK_BYTES, at);
    at -= length;
    const block = Buffer.concat([await readAt(file, at, length), rest]);
    let end = block.length;
    for (let newline = newlineBefore(block, end); newline >= 0; newline = newlineBefore(block, end)) {
      const record = parseRecord(block.subarray(newline + 1, end), at + newline + 1);
      if (record) yield record;
      end = newline + 1;
    }
    rest = block.subarray(0, end);
    if (rest.length > LINE_MAX_BYTES) return;
  }
  const record = parseRecord(rest, 0);
  if (record) yield record;
}

/** Of the newline that ends the line before the one that ends at `end`. */
function newlineBefore(block: Buffer, end: number): number {
  return end < 2 ? -1 : block.lastIndexOf(NEWLINE, end - 2);
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}
