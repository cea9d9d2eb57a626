import { watch, type FSWatcher } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { BerthError, isAbsent, messageOf } from '../base/errors';
import { NEWLINE, parseRecords, type LogRecord } from './log-records';
import { startOfTail, type LogStart } from './log-tail';

export interface LogRange {
  /** The last lines only; undefined: all. */
  tail: number | undefined;
  /** Records at or after this time. */
  sinceNs: bigint;
}

export interface Follow {
  /** Resolves when nothing more will be written. */
  ended: Promise<unknown>;
  signal: AbortSignal;
  /** Called once nothing can be missed any more. */
  onWatching: () => void;
}

/** Of one read; what is parsed of it is one batch. */
const READ_BYTES = 131_072;
/** A line longer than this is no record, and is dropped. */
const LINE_MAX_BYTES = 1024 * 1024;

/**
 * A log's records, oldest first, in batches. With `follow` it goes on, also in
 * the file that takes the log's place when the kubelet rotates it, until the
 * container has ended and its last byte was read. Holds one batch at a time.
 */
export async function* readLog(path: string, range: LogRange, follow?: Follow): AsyncGenerator<LogRecord[]> {
  using changes = follow && new Changes(path, follow);
  await using file = new LogFile(path, range.sinceNs);
  await file.open(range.tail);
  follow?.onWatching();
  for (;;) {
    // Asked before reading: what was written before the end is read after it.
    const isLast = changes === undefined || changes.hasEnded;
    yield* file.rest();
    if (await file.wasReplaced()) {
      // What was written between the last read and the change is in the old file.
      yield* file.rest();
      await file.reopen();
    } else if (isLast) {
      return;
    } else {
      await changes.next();
    }
  }
}

class LogFile implements AsyncDisposable {
  private file: FileHandle | undefined;
  private inode = 0;
  private position = 0;
  private partial: Buffer = Buffer.alloc(0);
  private start: LogStart = { stdout: 0, stderr: 0 };

  constructor(
    private readonly path: string,
    private readonly sinceNs: bigint,
  ) {}

  async open(tail: number | undefined): Promise<void> {
    this.file = await openLog(this.path);
    const { ino, size } = await this.file.stat();
    this.inode = ino;
    this.start = tail === undefined ? { stdout: 0, stderr: 0 } : await startOfTail(this.file, size, tail);
    this.position = Math.min(this.start.stdout, this.start.stderr);
    this.partial = Buffer.alloc(0);
  }

  async reopen(): Promise<void> {
    await this.file?.close();
    this.file = undefined;
    await this.open(undefined);
  }

  /** What there is from here to the end of the file. */
  async *rest(): AsyncGenerator<LogRecord[]> {
    for (;;) {
      const offset = this.position - this.partial.length;
      const text = await this.read();
      if (text === undefined) return;
      const records = parseRecords(text, offset).filter(record => this.isWanted(record));
      if (records.length > 0) yield records;
    }
  }

  private isWanted({ offset, stream, timeNs }: LogRecord): boolean {
    return offset >= this.start[stream] && timeNs >= this.sinceNs;
  }

  async wasReplaced(): Promise<boolean> {
    try {
      return (await stat(this.path)).ino !== this.inode;
    } catch (error) {
      // Between the two steps of a rotation, or removed with its container.
      if (isAbsent(error)) return false;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.file?.close();
  }

  /** Whole lines, or nothing of a line that is not whole yet; undefined at the end. */
  private async read(): Promise<Buffer | undefined> {
    const begun = this.partial.length;
    const buffer = Buffer.allocUnsafe(begun + READ_BYTES);
    this.partial.copy(buffer);
    const { bytesRead } = (await this.file?.read(buffer, begun, READ_BYTES, this.position)) ?? { bytesRead: 0 };
    if (bytesRead === 0) return undefined;
    this.position += bytesRead;
    const text = buffer.subarray(0, begun + bytesRead);
    const end = text.lastIndexOf(NEWLINE) + 1;
    this.partial = text.length - end > LINE_MAX_BYTES ? Buffer.alloc(0) : Buffer.from(text.subarray(end));
    return text.subarray(0, end);
  }
}

async function openLog(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    const why = isAbsent(error) ? 'there is no such file any more' : messageOf(error);
    throw new BerthError('failed_precondition', `read the log ${path}: ${why}`, { cause: error });
  }
}

/** Says when a log may have grown, by what the kernel says of its directory: the file itself may be replaced. */
class Changes implements Disposable {
  hasEnded = false;
  private readonly watcher: FSWatcher;
  private hasChanged = false;
  private wake: () => void = () => undefined;

  constructor(
    path: string,
    private readonly follow: Follow,
  ) {
    const name = basename(path);
    try {
      this.watcher = watch(dirname(path), (_, changed) => {
        if (changed === name) this.note();
      });
    } catch (error) {
      throw new BerthError('failed_precondition', `watch the log ${path}: ${messageOf(error)}`, { cause: error });
    }
    // A directory that is removed with its container: the container's end is announced apart.
    this.watcher.on('error', () => this.note());
    follow.signal.addEventListener('abort', this.onAbort);
    void follow.ended.then(() => {
      this.hasEnded = true;
      this.note();
    });
  }

  /** Resolves when something has happened since it last resolved, or the caller went away. */
  async next(): Promise<void> {
    if (!this.hasChanged && !this.follow.signal.aborted) await new Promise<void>(resolve => (this.wake = resolve));
    this.hasChanged = false;
    if (this.follow.signal.aborted) throw new BerthError('cancelled', 'the reader of a log went away');
  }

  [Symbol.dispose](): void {
    this.watcher.close();
    this.follow.signal.removeEventListener('abort', this.onAbort);
  }

  private readonly onAbort = () => this.note();

  private note(): void {
    this.hasChanged = true;
    this.wake();
  }
}
